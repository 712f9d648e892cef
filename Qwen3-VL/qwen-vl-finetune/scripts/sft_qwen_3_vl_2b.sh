#!/usr/bin/env bash
# Fine-tunes DynEval-2B, one curriculum stage at a time:  bash scripts/sft_qwen_3_vl_2b.sh 1|2 [more arguments]
DEFAULT_MODEL=Qwen/Qwen3-VL-2B-Instruct RUN_PREFIX=dyneval_2b
task_tokens=(--additional_special_tokens "<|T2IA|>,<|IQA|>,<|EVALUATION|>")
source "$(dirname "${BASH_SOURCE[0]}")/sft_common.sh"
