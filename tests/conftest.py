"""Settings of all tests: no network, no clock in property tests."""

import os

from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("longalign", deadline=None)
settings.load_profile("longalign")
