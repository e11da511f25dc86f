#!/usr/bin/env bash
# Write long instruction rows with a model on this machine's 8 GPUs: serves it with vLLM, builds, stops the server.
#
#   DOCUMENTS="books/ papers.jsonl" ROWS=10000 OUT=data/long.jsonl examples/generate_with_vllm.sh [options of data build]
#
# The two calls of a row share its document, so prefix caching halves the reading. A build that is stopped carries on.
set -euo pipefail

: "${LLM:=Qwen/Qwen3-30B-A3B-Instruct-2507}" "${PORT:=8000}"   # reads 262,144 tokens
vllm serve "$LLM" --port "$PORT" --tensor-parallel-size 2 --data-parallel-size 4 \
    --max-model-len 80000 --enable-prefix-caching &
server=$!
trap 'kill "$server" 2> /dev/null && wait "$server"' EXIT
until curl --silent --fail --output /dev/null "http://localhost:$PORT/health"; do
    kill -0 "$server" || { echo "vLLM ended before it was ready" >&2; exit 1; }
    sleep 5
done

# shellcheck disable=SC2086  # DOCUMENTS may name several files and folders
longalign data build --documents ${DOCUMENTS:-data/documents} --llm "openai:$LLM@http://localhost:$PORT/v1" \
    --rows "${ROWS:-10000}" --tokenizer "${TOKENIZER:-Qwen/Qwen3-8B-Base}" --concurrency 64 \
    --out "${OUT:-data/long.jsonl}" "$@"
