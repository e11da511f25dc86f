"""The work of `data build` with NVIDIA's DataDesigner: a call for questions, then a call for the answer, per document.

    PYTHON data_designer_pipeline.py DOCUMENTS.jsonl BASE_URL SLOTS

Run by `benchmarks.data_build --data-designer PYTHON`, in an environment of its own.
"""

import json
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    import data_designer.config as dd  # type: ignore[import-not-found,unused-ignore]
    from data_designer.interface import DataDesigner  # type: ignore[import-not-found,unused-ignore]

    file, url, slots = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rows = len(Path(file).read_text(encoding="utf-8").splitlines())
    provider = dd.ModelProvider(name="local", endpoint=url, provider_type="openai", api_key="none")
    model = dd.ModelConfig(
        alias="m", model="m", provider="local", skip_health_check=True,
        inference_parameters=dd.ChatCompletionInferenceParams(max_tokens=640, max_parallel_requests=slots),
    )  # fmt: skip
    pipeline = dd.DataDesignerConfigBuilder(model_configs=[model])
    pipeline.with_seed_dataset(dd.LocalFileSeedSource(path=file))
    pipeline.add_column(
        dd.LLMTextColumnConfig(name="questions", model_alias="m", prompt="{{ text }}\n\nWrite questions.\n1: ")
    )
    answer = "{{ text }}\n\n{{ questions }}\n\nAnswer the question. " + "Be complete. " * 60
    pipeline.add_column(dd.LLMTextColumnConfig(name="answer", model_alias="m", prompt=answer))
    with tempfile.TemporaryDirectory() as folder:
        designer = DataDesigner(artifact_path=folder, model_providers=[provider])
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        found = designer.create(pipeline, num_records=rows, dataset_name="rows").load_dataset()
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    done = {"rows": int(found["answer"].notna().sum()), "version": version("data-designer")}
    print("DONE", json.dumps(done | {"run_wall_s": round(wall, 2), "run_cpu_s": round(cpu, 2)}))


if __name__ == "__main__":
    main()
