#!/usr/bin/env bash
# Step 5: score the held-out pairs with the trained student (and with BASELINE, to see what training brought).
#   bash pipeline/5_evaluate.sh [settings file]   -> $OUTPUT/scores/
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
score() {
  python inference/run_inference.py --checkpoint "$1" --metadata "$OUTPUT/instruct/heldout.jsonl" \
    --image-root "$OUTPUT/gendb" --output "$OUTPUT/scores/$2.jsonl" "${SCORE_ARGS[@]}"
}
score "${CHECKPOINT:-$OUTPUT/train/dyneval_${STUDENT}_stage2_iqa}" trained
[[ -z ${BASELINE:-} ]] || score "$BASELINE" baseline
