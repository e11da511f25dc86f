"""The work of `data build` as a distilabel pipeline: a call for questions, then a call for the answer, per document.

    PYTHON distilabel_pipeline.py DOCUMENTS.jsonl BASE_URL SLOTS

Run by `benchmarks.data_build --distilabel PYTHON`, in an environment of its own.
"""

import json
import resource
import sys
import time
from pathlib import Path


def main() -> None:
    import distilabel  # type: ignore[import-not-found,unused-ignore]
    from distilabel.models import OpenAILLM  # type: ignore[import-not-found,unused-ignore]
    from distilabel.pipeline import Pipeline  # type: ignore[import-not-found,unused-ignore]
    from distilabel.steps import LoadDataFromDicts  # type: ignore[import-not-found,unused-ignore]
    from distilabel.steps.tasks import TextGeneration  # type: ignore[import-not-found,unused-ignore]

    file, url, slots = sys.argv[1], sys.argv[2], int(sys.argv[3])
    texts = [json.loads(line)["text"] for line in Path(file).read_text(encoding="utf-8").splitlines()]

    def model() -> object:
        return OpenAILLM(model="m", base_url=url, api_key="none", generation_kwargs={"max_new_tokens": 640})

    with Pipeline(name="rows") as pipeline:
        load = LoadDataFromDicts(data=[{"text": text} for text in texts], batch_size=slots)
        ask = TextGeneration(
            name="ask", llm=model(), template="{{ text }}\n\nWrite questions.\n1: ", columns=["text"],
            output_mappings={"generation": "questions"}, input_batch_size=slots,
        )  # fmt: skip
        answer = TextGeneration(
            name="answer", llm=model(), columns=["text", "questions"], input_batch_size=slots,
            template="{{ text }}\n\n{{ questions }}\n\nAnswer the question. " + "Be complete. " * 60,
        )  # fmt: skip
        load >> ask >> answer
    started = time.perf_counter()
    found = pipeline.run(use_cache=False)  # each step is a process of its own
    wall = time.perf_counter() - started
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(used.ru_utime + used.ru_stime for used in spent)
    rows = sum(row["generation"] is not None for row in found["default"]["train"])
    done = {"rows": rows, "version": distilabel.__version__}
    print("DONE", json.dumps(done | {"run_wall_s": round(wall, 2), "run_cpu_s": round(cpu, 2)}))


if __name__ == "__main__":
    main()
