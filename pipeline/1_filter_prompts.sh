#!/usr/bin/env bash
# Step 1: filter the prompts of PROMPT_INPUT and tier them.
#   bash pipeline/1_filter_prompts.sh [settings file]   -> $OUTPUT/prompts/
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
python extract_diverse_prompts.py --input "${PROMPT_INPUT[@]}" --output "$OUTPUT/prompts" "${PROMPT_ARGS[@]}"
