"""`data preferences`: rows with two answers to one question, in the form that TRL's DPOTrainer reads.

    OUT.jsonl              prompt and chosen and rejected, lists of messages; lengths and supports of both
    OUT.left_out.jsonl     every row that gave no pair, with its reason
    OUT.preferences.json   read = pairs + left out by reason; cost
    OUT.ledger.sqlite      every paid reply: the same command goes on after a kill without paying twice

Lengths are counted as training counts them, prompt and answer together; a pair of which either side is longer than
`max_length_tokens` is left out, never cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json, sha256_of, write_jsonl
from longalign.base.progress import Progress
from longalign.base.tokenizers import TokenCounter, open_tokenizer
from longalign.config.preferences import PreferenceSettings
from longalign.data.choose.given import Given, Row, read_given
from longalign.data.choose.rejected_answer import Pair, pair_for, prompt_and_answer
from longalign.data.choose.row_out import check_out, same_inputs, write_rows
from longalign.data.choose.stats import listed
from longalign.data.row_counts import FileRows
from longalign.data.tokenize import sequence_of_row
from longalign.errors import DataError
from longalign.llm.dialogue import converse
from longalign.llm.ledger import Ledger
from longalign.llm.open import is_endpoint, open_model

TOO_LONG = "longer than max_length_tokens"


@dataclass(frozen=True)
class _Files:
    left_out: Path
    report: Path
    ledger: Path

    @classmethod
    def of(cls, out: Path) -> _Files:
        ends = (".left_out.jsonl", ".preferences.json", ".ledger.sqlite")
        return cls(*(out.with_name(out.stem + end) for end in ends))


def preferences(name: str, settings: PreferenceSettings, out: Path) -> dict[str, Any]:
    """Write the pairs of `name`. Returns the report, with `text`.

    Raises `DataError` where no row gives a pair, `EndpointError` when the model cannot be asked at all.
    """
    files = _Files.of(out)
    check_out(out, [name], ours=same_inputs(files.report, name))
    counted: Counter[str] = Counter()
    total = sum(1 for _ in read_given(name, counted))
    counter, tokenizer = TokenCounter(settings.tokenizer), open_tokenizer(settings.tokenizer)
    ledger = Ledger(files.ledger, durable=is_endpoint(settings.llm))
    try:
        model = open_model(
            settings.llm,
            ledger=ledger,
            concurrency=settings.concurrency,
            price_usd_per_million=settings.price_usd_per_million,
            max_cost_usd=settings.max_cost_usd,
            timeout_s=settings.timeout_s,
        )
        in_flight = max(settings.concurrency, 64) if model.batched else settings.concurrency
        pairs: dict[int, Pair] = {}
        dialogues = (pair_for(given, settings, counter) for given in read_given(name))
        with Progress("preferences", total=total, unit="row") as bar:
            for place, pair in converse(model, dialogues, in_flight=in_flight):
                pairs[place] = pair
                bar.advance()
        spend = ledger.totals()
    finally:
        ledger.close()
    written: list[tuple[str, int]] = []
    left_out: list[Row] = []
    write_rows(out, _rows(name, pairs, tokenizer, settings, left_out, written))
    write_jsonl(files.left_out, left_out)
    reasons = Counter(row["reason"] for row in left_out)
    report = {
        "in": name,
        "out": str(out),
        "rows_sha256": sha256_of(out),
        "read": asdict(FileRows.of(counted)),
        "pairs": len(written),
        "left_out": dict(reasons.most_common()),
        "longest_tokens": max((tokens for _, tokens in written), default=0),
        "finished": not any(pair.over_budget for pair in pairs.values()),
        "spend": asdict(spend),
        "settings": settings.model_dump(mode="json"),
    }
    atomic_write_json(files.report, report)
    if not written:
        out.unlink()
        raise DataError(f"{name}: no row gave a pair ({listed(dict(reasons.most_common()))}); see {files.left_out}")
    return report | {"text": _text(report, files)}


def _rows(
    name: str,
    pairs: Mapping[int, Pair],
    tokenizer: Any,
    settings: PreferenceSettings,
    left_out: list[Row],
    written: list[tuple[str, int]],
) -> Iterator[Row]:
    for place, given in enumerate(read_given(name)):
        pair = pairs[place]
        prompt, chosen = prompt_and_answer(given.row)
        lengths: dict[str, int] = {}
        reason = pair.reason
        if not reason:
            sides = {"chosen": chosen, "rejected": pair.rejected}
            lengths = {side: _tokens(tokenizer, given, prompt, answer) for side, answer in sides.items()}
            reason = TOO_LONG if max(lengths.values()) > settings.max_length_tokens else ""
        if reason:
            left_out.append({"id": given.id, "where": given.where, "reason": reason, **lengths})
            continue
        written.append((given.id, max(lengths.values())))
        extras = {field: given.row[field] for field in ("tools", "chat_template_kwargs") if given.row.get(field)}
        told = {field: given.row[field] for field in ("source", "task", "language", "document") if given.row.get(field)}
        yield {
            "id": given.id,
            "prompt": [_plain(message) for message in prompt],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
            **extras,
            **told,
            "chosen_tokens": lengths["chosen"],
            "rejected_tokens": lengths["rejected"],
            "chosen_support": pair.chosen_support,
            "rejected_support": pair.rejected_support,
            "rejected_from": settings.rejected,
            "rejected_model": pair.model,
        }


def _plain(message: Mapping[str, Any]) -> Row:
    return {field: value for field, value in message.items() if field != "train"}


def _tokens(tokenizer: Any, given: Given, prompt: list[dict[str, Any]], answer: str) -> int:
    messages = [*prompt, {"role": "assistant", "content": answer}]
    try:
        return sequence_of_row(tokenizer, {**given.row, "messages": messages}).length_tokens
    except DataError as error:
        raise DataError(f"{given.where}: {error}") from None


def _text(report: Mapping[str, Any], files: _Files) -> str:
    spent = report["spend"]["spent_usd"]
    cost = "" if spent is None else f", ${spent:,.4f} spent in all"
    lines = [
        f"{report['in']}: {FileRows(**report['read']).words}",
        f"{report['pairs']:,} pairs in {report['out']}, the longest {report['longest_tokens']:,} tokens; "
        f"calls on record: {report['spend']['calls']:,}{cost}",
    ]
    if report["left_out"]:
        lines.append(f"left out: {listed(report['left_out'])} (see {files.left_out})")
    if not report["finished"]:
        lines.append("note: the cap on money ended it; raise --max_cost_usd and run it again to go on")
    return "\n".join(lines)
