#!/usr/bin/env bash
# Step 3: let the teacher annotate every pair, then build DynEvalInstruct and the overall scores.
#   bash pipeline/3_distill_annotations.sh [settings file]   -> $OUTPUT/annotations/, $OUTPUT/instruct/
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need "$OUTPUT/gendb/metadata.jsonl" "Step 2 writes it: bash pipeline/2_generate_images.sh $settings"
enter_venv
if [[ -n ${MERGE_SHARDS:-} ]]; then # another machine, or an array of jobs, has annotated with --shard
  python "Distill Annotations/merge.py" --metadata "$OUTPUT/gendb/metadata.jsonl" --output "$OUTPUT/annotations"
else
  python "Distill Annotations/annotate.py" --metadata "$OUTPUT/gendb/metadata.jsonl" --output "$OUTPUT/annotations" \
    "${TEACHER_ARGS[@]}"
fi
python "Distill Annotations/compute_overall_scores.py" --annotations "$OUTPUT/annotations" \
  --metadata "$OUTPUT/gendb/metadata.jsonl" --output "$OUTPUT/annotations/overall_scores.csv"
python "Distill Annotations/build_dynevalinstruct.py" --annotations "$OUTPUT/annotations" \
  --metadata "$OUTPUT/gendb/metadata.jsonl" --output "$OUTPUT/instruct" "${BUILD_ARGS[@]}"
