"""The files of one build: where they are, which settings they belong to, and whether they hold the requested rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from longalign.base.decides import decides
from longalign.base.files import fingerprint, fingerprint_path, sha256_of
from longalign.base.progress import say
from longalign.base.sources import model_dir
from longalign.base.stage import MANIFEST, read_manifest, set_aside
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.data.build_report import BuildReport
from longalign.data.ingredients import ingredient_inputs
from longalign.data.source import Source
from longalign.errors import ConfigError, RunError
from longalign.llm.offline import NAME
from longalign.llm.open import is_endpoint, is_vllm, path_of
from longalign.llm.prompt import prompt_hash, wordings
from longalign.llm.prompt_texts import check_tasks, read_again

STAGE = "data"
OLD_MARKER = "building"
"""File in `work` by which version 0.1, which had no stage.json, knew its rows before there was a report."""


@dataclass(frozen=True)
class Paths:
    """The files of one build. `folder` is the stage's: it holds stage.json, the lock and `superseded/`."""

    folder: Path
    rows: Path
    rejected: Path
    left_out: Path
    """Documents that no row is made from. It belongs to the documents that were read, so it is never set aside."""
    report: Path
    ledger: Path
    work: Path

    @classmethod
    def of(cls, out: Path) -> Paths:
        """`out`: a folder of its own for the build, with rows.jsonl in it; or a FILE.jsonl, and all else beside it."""
        in_folder = out.suffix != ".jsonl" and (out.is_dir() or not out.suffix)
        if not in_folder and (out.suffix != ".jsonl" or out.is_dir()):
            raise ConfigError(
                f"--out {out}: must be a .jsonl file, for example {out.with_suffix('')}.jsonl, or a folder"
            )
        rows = out / "rows.jsonl" if in_folder else out
        names = (".rejected.jsonl", ".documents.jsonl", ".report.json", ".ledger.sqlite", ".work")
        rejected, left_out, report, ledger, work = (rows.parent / f"{rows.stem}{suffix}" for suffix in names)
        return cls(out if in_folder else work, rows, rejected, left_out, report, ledger, work)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Files that belong to these settings. The ledger and the documents that were read serve any settings."""
        return self.folder / MANIFEST, *self.rows_with_report

    @property
    def rows_with_report(self) -> tuple[Path, ...]:
        """The rows and their report."""
        return self.rows, self.rejected, self.report


@dataclass(frozen=True)
class Inputs:
    """What a build reads, by content. `documents`, `decontaminate`: name -> fingerprint."""

    documents: Mapping[str, str]
    decontaminate: Mapping[str, str]
    tokenizer: str
    llm: str
    prompts: tuple[str, ...]
    ingredients: Mapping[str, str] = field(default_factory=dict)
    """What ingredients read besides: the checker, the prompts of checks, the file of intents."""

    @classmethod
    def of(cls, settings: DataSettings, counter: TokenCounter) -> Inputs:
        """Raises `DataError` for documents or evaluation files that are not there."""
        read_again()
        check_tasks(settings.tasks, settings.prompts)
        read = {name: Source(name).documents_fingerprint() for name in (*settings.documents, *settings.decontaminate)}
        return cls(
            {name: read[name] for name in settings.documents},
            {name: read[name] for name in settings.decontaminate},
            counter.fingerprint,
            _model_fingerprint(settings.llm),
            tuple(prompt_hash(wording) for wording in wordings(settings.prompts)),
            ingredient_inputs(settings, _model_fingerprint),
        )

    @property
    def texts(self) -> str:
        """Of all documents and evaluation files, as `documents_fingerprint` puts it."""
        found = fingerprint(list(self.documents.values()))
        return fingerprint(found, fingerprint(list(self.decontaminate.values()))) if self.decontaminate else found

    def by_name(self) -> dict[str, str]:
        """For the stage: a model counts by its weights or name, not by the address of its server."""
        named = {"tokenizer": self.tokenizer, "llm": self.llm, "prompts": fingerprint(self.prompts)}
        return {**self.documents, **self.decontaminate, **named, **self.ingredients}


def _model_fingerprint(spec: str) -> str:
    """What names the model for the result: its weights where they are here, else its name without the address."""
    if is_endpoint(spec):
        return spec.rpartition("@")[0] or spec
    if spec == "offline":
        return NAME
    folder = Path(model_dir(path_of(spec)))
    if not folder.exists():
        return spec
    return fingerprint("vllm", fingerprint_path(folder)) if is_vllm(spec) else fingerprint_path(folder)


def claim(paths: Paths) -> None:
    """Raise `RunError` for rows that no build wrote, and for the folder of another stage."""
    manifest = read_manifest(paths.folder)
    if manifest is not None and manifest["stage"] != STAGE:
        raise RunError(f"{paths.folder}: holds stage `{manifest['stage']}`; choose another --out")
    built = manifest is not None or paths.report.exists() or (paths.work / OLD_MARKER).exists()
    if paths.rows.exists() and not built:
        raise RunError(f"{paths.rows}: exists and was not written by `data build`; choose another --out")


def intact(paths: Paths, report: BuildReport) -> bool:
    """Whether the rows are still what was written."""
    return paths.rows.exists() and report.rows_sha256 == sha256_of(paths.rows)


def earlier_build(paths: Paths, settings: DataSettings, inputs: Inputs, stamp: str) -> BuildReport | None:
    """The report of a finished build of exactly this that stage.json does not know: of version 0.1, or killed at its
    very end. Rows of other settings from version 0.1 are set aside."""
    report, marker = BuildReport.read(paths.report), paths.work / OLD_MARKER
    owner = report.fingerprint if report else marker.read_text(encoding="utf-8") if marker.exists() else stamp
    same = owner in (stamp, _stamp_of_version_0_1(settings, inputs))
    if report and same and report.finished and intact(paths, report):
        marker.unlink(missing_ok=True)
        return report
    if not same or (report and report.finished):
        attic = set_aside(paths.folder, {"fingerprint": owner}, paths.rows_with_report)
        say(f"note: {paths.rows}: other settings or changed since; the earlier rows are in {attic}")
    marker.unlink(missing_ok=True)
    return None


SETTINGS_OF_VERSION_0_1 = {
    "min_length_tokens", "max_length_tokens", "reserve_tokens", "longer_documents", "length_exponent", "chinese_share",
    "max_rows_per_document", "duplicate_share", "contaminated_share", "tasks", "questions_per_call", "turns",
    "min_support", "register_entries", "closed_book", "question_temperature", "answer_temperature", "max_new_tokens",
    "rows", "seed",
}  # fmt: skip
"""Those that decided the rows besides what is read."""


def _stamp_of_version_0_1(settings: DataSettings, inputs: Inputs) -> str:
    plain = DataSettings(preset="paper")
    unset = {name for name in DataSettings.model_fields if getattr(settings, name) == getattr(plain, name)} | {"preset"}
    chosen = settings.model_dump(mode="json", exclude=unset - SETTINGS_OF_VERSION_0_1)
    read = {"documents", "decontaminate", "tokenizer", "llm"}
    chosen = {key: value for key, value in chosen.items() if key not in read and decides(DataSettings, key) == "result"}
    prompts = inputs.prompts if settings.prompts else inputs.prompts[:2]  # there were English and Chinese ones
    return fingerprint("data", 1, chosen, inputs.texts, inputs.tokenizer, inputs.llm, list(prompts))
