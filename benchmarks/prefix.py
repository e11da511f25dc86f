"""Claim: questions about one long document take a local model a fraction of the time when it reads the document once.

    python -m benchmarks.prefix [--threads 1] [--repeats 1]

Asks `builtin:tiny-base` (float32, CPU) 2, 4 and 8 questions about one document of 2k and of 8k tokens, 16 new tokens
each: every prompt read alone (`share_prefixes` off) and with the beginning shared. Every measurement is a process of
its own; the two ways of a case answer the same. One more case: memory of a prompt of 32k tokens beyond that of a model
at rest. Writes `benchmarks/results/prefix.json`.
"""

from benchmarks.measure import Measured, run_cases, timed_with_peak, write_result

NEW_TOKENS = 16
CASES = {
    f"{how}, {questions} questions, {tokens} tokens": (how, questions, tokens)
    for tokens in (2048, 8192)
    for questions in (2, 4, 8)
    for how in ("alone", "shared")
} | {"alone, 1 questions, 32768 tokens": ("alone", 1, 32_768)}


def measure(how: str, questions: int, document_tokens: int, threads: int) -> Measured:
    """All questions of one case in this process."""
    import torch
    from transformers.utils import logging

    from longalign.data.source import read_documents
    from longalign.llm.base import Request, complete_all
    from longalign.llm.local import LocalModel

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    model = LocalModel("builtin:tiny-base", device="cpu", share_prefixes=how == "shared")
    text = "\n\n".join(document.text for document in read_documents(["builtin:chinese-heldout", "builtin:chinese"]))
    ids = (model.tokenizer(text, add_special_tokens=False)["input_ids"] * 40)[:document_tokens]
    document = model.tokenizer.decode(ids)
    requests = [
        Request(messages=({"role": "user", "content": f"{document}\n\nWhat is {n}?"},), max_new_tokens=NEW_TOKENS)
        for n in range(questions)
    ]
    complete_all(model, [Request(messages=({"role": "user", "content": "Hi"},), max_new_tokens=2)])
    outcomes, spent = timed_with_peak(lambda: complete_all(model, requests))
    return {
        **spent,
        "prompt_tokens": sum(outcome.prompt_tokens or 0 for outcome in outcomes),
        "replies": [outcome.text for outcome in outcomes],
    }


def summarise(best: dict[str, Measured]) -> dict[str, float]:
    """Time of the plain way divided by that of the shared one, by case."""
    found: dict[str, float] = {"replies_equal": 1}
    for name, shared in best.items():
        if not name.startswith("shared, "):
            continue
        case = name.removeprefix("shared, ")
        alone = best[f"alone, {case}"]
        found[f"cpu_time_ratio, {case}"] = alone["cpu_s"] / shared["cpu_s"]
        found[f"wall_time_ratio, {case}"] = alone["wall_s"] / shared["wall_s"]
        found["replies_equal"] *= alone["replies"] == shared["replies"]
    found["peak_mib, 32768 tokens"] = best["alone, 1 questions, 32768 tokens"]["peak_mib"]
    return found


def main() -> None:
    claim = __doc__.split("\n")[0]
    found = run_cases("benchmarks.prefix", claim, CASES, measure)
    summary = summarise(found.best)
    for name, value in summary.items():
        print(f"{name:45} {value:.4g}")
    rows = [{"case": name, **best} for name, best in found.best.items()]
    write_result(
        "prefix", claim, rows, folder=found.asked.results, summary=summary, threads=found.asked.threads,
        model="builtin:tiny-base", dtype="float32", new_tokens=NEW_TOKENS, note=found.asked.note,
    )  # fmt: skip


if __name__ == "__main__":
    main()
