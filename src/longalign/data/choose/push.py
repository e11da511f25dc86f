"""`data push`: rows and their card to a data set of the Hugging Face hub.

The build's own report stays here: it holds paths and addresses of the machine.

The token comes from the environment only (HF_TOKEN, or what `hf auth login` stored); it is never an option, so it is in
no history of commands. `HF_ENDPOINT` names another hub.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from longalign.data.choose.card import Records, card_text
from longalign.errors import ConfigError, DataError, EndpointError, first_line

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def push(file: Path, repository: str, *, private: bool = False, plan_only: bool = False) -> dict[str, Any]:
    """Upload FILE, and its card as README.md (made now if there is none), as one commit.

    `plan_only` says what would be uploaded, and asks nobody. Raises `EndpointError` with the hub's own words.
    """
    if not REPOSITORY.fullmatch(repository):
        raise ConfigError(f"--repo {repository}: write ORG/NAME")
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    card_file = file.with_name(f"{file.stem}.card.md")
    made = "" if card_file.exists() else card_text(file, Records.beside(file))
    uploads: dict[str, bytes | Path] = {"README.md": made.encode() if made else card_file, file.name: file}
    sizes = {name: len(what) if isinstance(what, bytes) else what.stat().st_size for name, what in uploads.items()}
    where = f"{'private ' if private else ''}data set {repository}"
    report: dict[str, Any] = {"repo": repository, "private": private, "files": sizes, "pushed": False}
    lines = [f"  {name}: {size:,} bytes" for name, size in sizes.items()]
    if plan_only:
        return report | {"text": "\n".join([f"would go to the {where}:", *lines])}
    url = _upload(repository, uploads, private)
    return report | {"pushed": True, "url": url, "text": "\n".join([f"pushed to the {where}: {url}", *lines])}


def _upload(repository: str, uploads: dict[str, bytes | Path], private: bool) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        done = api.create_commit(
            repository,
            [
                CommitOperationAdd(path_in_repo=name, path_or_fileobj=what if isinstance(what, bytes) else str(what))
                for name, what in uploads.items()
            ],
            commit_message="Rows and card, by longalign",
            repo_type="dataset",
        )
    except Exception as error:  # the hub's client raises its own errors and those of its HTTP library
        raise EndpointError(
            f"{repository}: the hub did not take it ({first_line(error)}); is HF_TOKEN set, with the right to write?"
        ) from None
    return str(done.commit_url)
