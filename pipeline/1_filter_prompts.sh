#!/usr/bin/env bash
# Step 1: filter the prompts of PROMPT_INPUT and tier them.
#   bash pipeline/1_filter_prompts.sh [settings file]   -> $OUTPUT/prompts/
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
for input in "${PROMPT_INPUT[@]}"; do
  # A name without such an ending is a folder or a data set of the Hub, of which Python knows more.
  case $input in
    *.parquet | *.csv | *.tsv | *.json | *.jsonl | *.txt) need "$input" "it is the PROMPT_INPUT of $settings" ;;
  esac
done
enter_venv
python extract_diverse_prompts.py --input "${PROMPT_INPUT[@]}" --output "$OUTPUT/prompts" "${PROMPT_ARGS[@]}"
