"""One endpoint over a whole Ray cluster, for building rows with more than one machine (not run in our tests).

    pip install "ray[llm]"
    serve run examples.serve_with_ray:app          # on the head node; replicas spread over the cluster's GPUs
    longalign data build --documents data/documents --llm openai:writer@http://HEAD:8000/v1 \
        --rows 10000 --tokenizer Qwen/Qwen3-8B-Base --concurrency 256 --out data/long.jsonl
"""

from ray.serve.llm import LLMConfig, build_openai_app

writer = LLMConfig(
    model_loading_config={"model_id": "writer", "model_source": "Qwen/Qwen3-30B-A3B-Instruct-2507"},
    deployment_config={"autoscaling_config": {"min_replicas": 1, "max_replicas": 16}},
    accelerator_type="H100",
    engine_kwargs={"tensor_parallel_size": 2, "max_model_len": 80_000, "enable_prefix_caching": True},
)
app = build_openai_app({"llm_configs": [writer]})
