#!/usr/bin/env bash
# Does the curriculum teach a judge, and which reply form teaches it better? The demo's own road, prompts and steps,
# from the demo's base, with three seeds of training; held-out scenes are scored.
#   bash benchmarks/learning_proof.sh [FOLDER]      FOLDER: output/learning_proof; what is there is kept
# Students: curriculum (Stage 1, Stage 2), mixed (both stages' samples at once, as many steps), and the curriculum with
# evaluations in the reply form `release`, which puts reasons before scores. Needs .venv (pipeline/setup_env.sh).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
run=$(realpath -m "${1:-output/learning_proof}")
seeds=${SEEDS:-1 2 3} steps=${STEPS:-70} prompts=${PROMPTS:-400}
export OUTPUT=$run DEMO_STEPS=$steps DEMO_PROMPTS=$prompts
source .venv/bin/activate
source pipeline/demo.env # how the demo trains and scores
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false DS_ACCELERATOR=cpu
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

world() { # Steps 1-3 of the demo, with both reply forms
  python -m dyneval.demo.prompts --count "$prompts" --seed 0 --output "$run/demo_prompts.txt"
  python -m dyneval.demo.weights base --output "$run/base"
  python -m dyneval.demo.weights base --task-tokens --output "$run/untrained"
  for step in 1_filter_prompts 2_generate_images 3_distill_annotations; do
    bash "pipeline/$step.sh" pipeline/demo.env
  done
  python "Distill Annotations/build_dynevalinstruct.py" --annotations "$run/annotations" --heldout 0.1 \
    --metadata "$run/gendb/metadata.jsonl" --output "$run/instruct_release" --reply-form release
  python -m dyneval.demo.summary shuffle --output "$run"
}

# sft STAGE OUTPUT MODEL DATA [arguments]: Step 4's launcher.
sft() {
  local stage=$1 output=$2 model=$3 data=$4
  shift 4
  (
    export OUTPUT_ROOT=$output MODEL_NAME_OR_PATH=$model STAGE1_CHECKPOINT=$model
    export DYNEVALINSTRUCT_T2IA_ANNOTATION=$data/dynevalinstruct_t2ia.json
    export DYNEVALINSTRUCT_IQA_ANNOTATION=$data/dynevalinstruct_iqa.json
    export DYNEVALINSTRUCT_T2IA_DATA=$run/gendb DYNEVALINSTRUCT_IQA_DATA=$run/gendb
    if [[ $stage == 2 ]]; then export DATASET_USE=$STAGE2_DATASETS; fi
    cd Qwen3-VL/qwen-vl-finetune
    bash scripts/sft_qwen_3_vl_2b.sh "$stage" "${TRAIN_ARGS[@]}" "$@"
  )
}
mix() { DATASET_USE=dynevalinstruct sft "$@"; }
score() { # score NAME CHECKPOINT METADATA
  python inference/run_inference.py --checkpoint "$2" --metadata "$3" --image-root "$run/gendb" \
    --output "$run/scores/$1.jsonl" "${SCORE_ARGS[@]}"
}

stage1=dyneval_2b_stage1_t2ia stage2=dyneval_2b_stage2_iqa heldout=$run/instruct/heldout.jsonl
part "scenes and annotations" world
part "scores, untrained" score untrained "$run/untrained" "$heldout"
for seed in $seeds; do
  for form in readme release; do
    student="curriculum $form $seed" data=$run/instruct
    if [[ $form == release ]]; then data=$run/instruct_release; fi
    part "stage 1, $student" sft 1 "$run/$student" "$run/base" "$data" --seed "$seed"
    part "stage 2, $student" sft 2 "$run/$student" "$run/$student/$stage1" "$data" --seed "$seed"
    part "scores, $student" score "$student" "$run/$student/$stage2" "$heldout"
  done
  student="mixed readme $seed"
  part "stages mixed, $student" mix 1 "$run/$student" "$run/base" "$run/instruct" \
    --max_steps $((2 * steps)) --seed "$seed"
  part "scores, $student" score "$student" "$run/$student/$stage1" "$heldout"
done
part "scores, other pictures" score shuffled "$run/curriculum readme ${seeds%% *}/$stage2" \
  "$run/scores/shuffled_pairs.jsonl"
python benchmarks/learning_proof/report.py --run "$run" --plots benchmarks/learning_proof
