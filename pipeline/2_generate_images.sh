#!/usr/bin/env bash
# Step 2: give the prompts of each tier to the image models of that tier.
#   bash pipeline/2_generate_images.sh [settings file]   -> $OUTPUT/gendb/
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need "$OUTPUT/prompts/prompts.parquet" "Step 1 writes it: bash pipeline/1_filter_prompts.sh $settings"
enter_venv
python image_gen_scripts/generate.py "${GENERATE_ARGS[@]}" \
  --prompts "$OUTPUT/prompts/prompts.parquet" --output "$OUTPUT/gendb"
