"""Which system was evaluated: the model by its content or its endpoint, and how it is asked."""

from __future__ import annotations

from typing import Any

from longalign.base.decides import decides
from longalign.base.files import fingerprint
from longalign.config import EvalSettings
from longalign.eval.registry import TASKS
from longalign.eval.subject import model_fingerprint

APART = {*TASKS, "tasks", "model", "chat_template"}
"""Settings that say what is asked, and those that the fingerprint of the model covers."""


def identity(settings: EvalSettings) -> str:
    """The same for two evaluations of one system; label and seed do not count, nor how fast it is asked.

    The model's fingerprint where all settings have their defaults, so that results of earlier versions have it too.
    """
    model = model_fingerprint(settings)
    own: dict[str, Any] = {
        name: value
        for name, value in settings.model_dump(mode="json", exclude_defaults=True).items()
        if name in EvalSettings.model_fields and name not in APART and decides(EvalSettings, name) == "result"
    }
    return fingerprint(model, own) if own else model
