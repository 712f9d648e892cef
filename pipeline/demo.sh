#!/usr/bin/env bash
# The whole road on a machine without GPU, weights or network: prompts -> images -> annotations -> training -> scores.
#   bash pipeline/demo.sh             everything, some minutes on two cores, ends with output/demo/summary.html
#   bash pipeline/demo.sh --smoke     the same road, shorter; fails unless the student learned to judge
# A finished judge is there without any of this: dyneval demo
# Output: output/demo (--smoke: output/demo-smoke). The folder is made anew each time.
set -euo pipefail
# shellcheck source=pipeline/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

started=$SECONDS check=()
case ${1:-} in
  --smoke)
    export OUTPUT=${OUTPUT:-output/demo-smoke} DEMO_PROMPTS=120 DEMO_STEPS=25 DEMO_RATE=3e-3 DEMO_HELDOUT=0.15
    check=(--check)
    ;;
  '') ;;
  *) echo "demo.sh: unknown argument '$1'; see bash pipeline/demo.sh --help" >&2; exit 2 ;;
esac

# What the demo and its next commands need, so that set-up takes no longer than it must.
export DYNEVAL_EXTRAS=${DYNEVAL_EXTRAS:-prompts,teacher,train,report,serve}
bash pipeline/setup_env.sh
source .venv/bin/activate
source pipeline/demo.env
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
command -v nvidia-smi >/dev/null || export DS_ACCELERATOR=cpu # else DeepSpeed warns each time that it found no GPU
rm -rf "$OUTPUT"
mkdir -p "$OUTPUT"

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
say "Demo prompts, and the base: a tiny Qwen3-VL that has seen the demo's world"
python -m dyneval.demo.prompts --count "$DEMO_PROMPTS" --seed 0 --output "$OUTPUT/demo_prompts.txt"
python -m dyneval.demo.weights base --output "$MODEL"
python -m dyneval.demo.weights base --task-tokens --output "$BASELINE"

for step in 1_filter_prompts 2_generate_images 3_distill_annotations 4_finetune 5_evaluate; do
  say "Step ${step%%_*}: pipeline/$step.sh"
  bash "pipeline/$step.sh" pipeline/demo.env
done

say "The control: the same student, shown the pictures of other prompts"
python -m dyneval.demo.summary shuffle --output "$OUTPUT"
python inference/run_inference.py --checkpoint "$OUTPUT/train/dyneval_2b_stage2_iqa" --image-root "$OUTPUT/gendb" \
  --metadata "$OUTPUT/scores/shuffled_pairs.jsonl" --output "$OUTPUT/scores/shuffled.jsonl" "${SCORE_ARGS[@]}"

say "Summary"
python -m dyneval.demo.summary show --output "$OUTPUT" --seconds "$((SECONDS - started))" "${check[@]}"
