#!/usr/bin/env bash
# Fine-tune on one machine with all its GPUs; the same command again resumes.
#
#   examples/torchrun.sh [fsdp2|sp2|sp4|zero3|lora] [any option of `longalign train`]
#   GPUS=4 MODEL=Qwen/Qwen3-4B-Base DATA="long.jsonl chats.jsonl" OUT=runs/sft examples/torchrun.sh sp2 --seed 1
set -euo pipefail

how=${1:-fsdp2}
shift || true
case $how in
    fsdp2) options=(--parallel fsdp2) ;;                                    # weights, gradients, optimizer sharded
    sp2) options=(--parallel fsdp2 --sequence_parallel 2) ;;                # and two GPUs share a sequence
    sp4) options=(--parallel fsdp2 --sequence_parallel 4) ;;
    zero3) options=(--parallel deepspeed --cpu_offload true) ;;             # the paper's: pip install "longalign[deepspeed]"
    lora) options=(--parallel fsdp2 --lora_rank 32 --learning_rate 1e-4) ;; # pip install "longalign[lora]"
    *) echo "usage: $0 [fsdp2|sp2|sp4|zero3|lora] [training options]" >&2 && exit 2 ;;
esac

# shellcheck disable=SC2086  # DATA may name several files
exec torchrun --standalone --nproc-per-node "${GPUS:-8}" -m longalign train \
    --model "${MODEL:-Qwen/Qwen3-8B-Base}" --data ${DATA:-long.jsonl chats.jsonl} --out "${OUT:-runs/sft}" \
    --window 65536 --strategy balanced --weighting sequence "${options[@]}" "$@"
