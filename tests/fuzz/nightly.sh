#!/usr/bin/env bash
# Fuzzes every reader for ten minutes, or those that are named, for as long as SECONDS_EACH says.
#   bash tests/fuzz/nightly.sh [reply] [annotations] [published] [annotation_file] [image] [prompts]
# What breaks a reader is left as output/fuzz/crash-*; once mended, it belongs into tests/fuzz/cases.jsonl.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash pipeline/setup_env.sh
.venv/bin/python -c 'import atheris' 2>/dev/null || .venv/bin/python -m pip install --quiet -c constraints.txt atheris
targets=("$@")
((${#targets[@]})) || targets=(reply annotations published annotation_file image prompts)
mkdir -p output/fuzz
failed=0
for target in "${targets[@]}"; do
  .venv/bin/python -m tests.fuzz.fuzz "$target" -max_total_time="${SECONDS_EACH:-600}" -artifact_prefix=output/fuzz/ \
    -print_final_stats=1 -verbosity=0 || { echo "fuzz: $target broke, see output/fuzz" >&2; failed=1; }
done
exit "$failed"
