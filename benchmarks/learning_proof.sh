#!/usr/bin/env bash
# Does the curriculum teach a judge? Random weights, a warm-up (vision, then captions), Stage 1, Stage 2; then held-out
# scenes are scored.
#   bash benchmarks/learning_proof.sh [--compare] [FOLDER]      FOLDER: output/learning_proof; what is there is kept
# --compare trains three more students from the same warm-up: with evaluations in the reply form `release`, on the samples
# of both stages mixed (the same budget without curriculum), and with a Stage 2 that repeats nothing of Stage 1. Needs
# .venv (pipeline/setup_env.sh); two cores take under an hour, and twice as long again with --compare.
# The training is that of Step 4, scripts/sft_qwen_3_vl_2b.sh, with a 22 M parameter model and images of 128 pixels.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
compare=
if [[ ${1:-} == --compare ]]; then compare=1; shift; fi
run=$(realpath -m "${1:-output/learning_proof}")
source .venv/bin/activate
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false DS_ACCELERATOR=cpu
world=$run/world
mkdir -p "$run"

# part NAME COMMAND...: runs it unless it was finished before, and notes how long it took.
part() {
  local name=$1 started=$SECONDS
  shift
  if grep -qsF "\"$name\"" "$run/times.jsonl"; then return; fi
  printf '\n== %s\n' "$name"
  "$@"
  printf '{"part": "%s", "seconds": %d}\n' "$name" $((SECONDS - started)) >>"$run/times.jsonl"
}

# sft STAGE OUTPUT MODEL [arguments]: Step 4's launcher.
sft() {
  local stage=$1 output=$2 model=$3
  shift 3
  (
    export OUTPUT_ROOT=$output MODEL_NAME_OR_PATH=$model STAGE1_CHECKPOINT=$model
    export DYNEVALINSTRUCT_T2IA_ANNOTATION=${T2IA:-$world/t2ia.json} DYNEVALINSTRUCT_IQA_ANNOTATION=${IQA:-$world/iqa.json}
    export DYNEVALINSTRUCT_T2IA_DATA=$world/images DYNEVALINSTRUCT_IQA_DATA=$world/images
    export MIN_PIXELS=16384 MAX_PIXELS=16384 GRADIENT_CHECKPOINTING=False
    export GRADIENT_ACCUMULATION_STEPS=1 WARMUP_RATIO=0.05 LOGGING_STEPS=10 DATALOADER_NUM_WORKERS=1
    cd Qwen3-VL/qwen-vl-finetune
    bash scripts/sft_qwen_3_vl_2b.sh "$stage" "$@"
  )
}
warm() { T2IA=$world/captions.json sft "$@"; }
mix() { DATASET_USE=dynevalinstruct sft "$@"; }
# A student that began from random weights forgets how to ask about prompts when Stage 2 never asks it to.
repeat() { DATASET_USE=dynevalinstruct_iqa,dynevalinstruct_t2ia%20 sft "$@"; }
in_release() { T2IA=$world/t2ia_release.json IQA=$world/iqa_release.json "$@"; }
score() { # score NAME CHECKPOINT METADATA
  python inference/run_inference.py --checkpoint "$2" --metadata "$world/$3" --image-root "$world/images" \
    --output "$run/scores/$1.jsonl" --batch-size 16 --max-questions 6 --max-text 80
}

stage1=dyneval_2b_stage1_t2ia stage2=dyneval_2b_stage2_iqa
# Small batches: with 22 M parameters, the number of steps decides.
first=(--per_device_train_batch_size 8 --learning_rate 6e-4 --num_train_epochs 0.36)
second=(--per_device_train_batch_size 8 --learning_rate 4e-4 --num_train_epochs 0.27)
part "scenes" python benchmarks/learning_proof/world.py --output "$world"
part "tiny model" python -m dyneval.demo.tiny_model --width 128 --output "$run/tiny"
part "untrained model" python -m dyneval.demo.tiny_model --width 128 --task-tokens --output "$run/untrained"
part "vision" python benchmarks/learning_proof/vision.py --model "$run/tiny" --world "$world" --output "$run/seeing"
part "captions" warm 1 "$run/warmup" "$run/seeing" \
  --per_device_train_batch_size 32 --learning_rate 1.5e-3 --num_train_epochs 2
part "Stage 1" sft 1 "$run/curriculum" "$run/warmup/$stage1" "${first[@]}"
part "Stage 2" repeat 2 "$run/curriculum" "$run/curriculum/$stage1" "${second[@]}"
part "scores" score curriculum "$run/curriculum/$stage2" heldout.jsonl
part "scores with other images" score "curriculum, other images" "$run/curriculum/$stage2" heldout_swapped.jsonl
part "scores, untrained" score untrained "$run/untrained" heldout.jsonl
if [[ $compare ]]; then
  part "Stage 1, release" in_release sft 1 "$run/release" "$run/warmup/$stage1" "${first[@]}"
  part "Stage 2, release" in_release repeat 2 "$run/release" "$run/release/$stage1" "${second[@]}"
  part "scores, release" score release "$run/release/$stage2" heldout.jsonl
  part "scores, Stage 1" score "Stage 1" "$run/curriculum/$stage1" heldout.jsonl
  # 0.328 of all samples are as many as the two stages see together.
  part "mixed" mix 1 "$run/mixed" "$run/warmup/$stage1" "${first[@]}" --num_train_epochs 0.328
  part "scores, mixed" score mixed "$run/mixed/$stage1" heldout.jsonl
  part "Stage 2 alone" sft 2 "$run/alone" "$run/curriculum/$stage1" "${second[@]}"
  part "scores, Stage 2 alone" score "Stage 2 alone" "$run/alone/$stage2" heldout.jsonl
fi
python benchmarks/learning_proof/report.py --run "$run" --plots benchmarks/learning_proof
