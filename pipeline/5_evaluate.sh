#!/usr/bin/env bash
# Step 5: score the held-out pairs with the trained student (and with BASELINE, to see what training brought).
#   bash pipeline/5_evaluate.sh [settings file]   -> $OUTPUT/scores/
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need "$OUTPUT/instruct/heldout.jsonl" "Step 3 writes it: bash pipeline/3_distill_annotations.sh $settings"
CHECKPOINT=${CHECKPOINT:-}
if [[ -z $CHECKPOINT ]]; then
  CHECKPOINT=$OUTPUT/train/dyneval_${STUDENT}_stage2_iqa
  need "$CHECKPOINT" "Step 4 writes it: bash pipeline/4_finetune.sh $settings"
fi
enter_venv
score() {
  python inference/run_inference.py --checkpoint "$1" --metadata "$OUTPUT/instruct/heldout.jsonl" \
    --image-root "$OUTPUT/gendb" --output "$OUTPUT/scores/$2.jsonl" "${SCORE_ARGS[@]}"
}
score "$CHECKPOINT" trained
[[ -z ${BASELINE:-} ]] || score "$BASELINE" baseline
