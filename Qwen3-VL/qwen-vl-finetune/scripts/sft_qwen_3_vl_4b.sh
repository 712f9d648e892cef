#!/usr/bin/env bash
# Fine-tunes DynEval-4B, one curriculum stage at a time:  bash scripts/sft_qwen_3_vl_4b.sh 1|2 [more arguments]
DEFAULT_MODEL=Qwen/Qwen3-VL-4B-Instruct RUN_PREFIX=dyneval_4b
task_tokens=(--additional_special_tokens "<|T2IA|>,<|IQA|>,<|EVALUATION|>")
source "$(dirname "${BASH_SOURCE[0]}")/sft_common.sh"
