#!/usr/bin/env bash
# Runs the tests with the oldest versions that pyproject.toml admits, in environments of their own (6 GB each, made anew):
# one with the package, one with what training needs, which wants a newer transformers.
# Before a release, and where a bound is changed: bash tests/lower_bounds.sh [package|train [arguments of pytest]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash pipeline/setup_env.sh
uv=(.venv/bin/uv --quiet)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

# with_oldest NAME EXTRAS ARGUMENTS...: runs pytest in the environment of that name
with_oldest() {
  local folder=.venv-tests/lower-bounds-$1 extras=$2
  "${uv[@]}" venv --clear --python .venv/bin/python "$folder"
  # Of each package that pyproject.toml names the oldest; of those behind them the newest that suit.
  "${uv[@]}" pip install --python "$folder/bin/python" --resolution lowest-direct -e ".[$extras]"
  "${uv[@]}" pip freeze --python "$folder/bin/python" | grep '==' >"$folder/versions.txt"
  # What runs the tests may be new, as long as it leaves those alone.
  "${uv[@]}" pip install --python "$folder/bin/python" -c "$folder/versions.txt" \
    accelerate hypothesis jsonschema pip playwright pyarrow pytest pytest-timeout pytest-xdist schemathesis tiktoken
  grep -E '^(torch|transformers|llguidance|openai|numpy|pillow|polars|deepspeed|peft)==' "$folder/versions.txt"
  "$folder/bin/python" -m pytest "${@:3}"
}

which=${1:-all}
[[ $which =~ ^(all|package|train)$ ]] || { echo "expected package or train, found $which" >&2 && exit 2; }
((!$#)) || shift
(($#)) || set -- -q -n 2 --dist loadfile
if [[ $which != train ]]; then
  # How a JSON Schema is written depends on msgspec's version; the files are those of constraints.txt.
  with_oldest package excel,local,prompts,report,serve,teacher "$@" tests/cli tests/evaluation tests/files tests/instruct tests/llm \
    tests/prompts tests/scorer tests/serve tests/teacher tests/test_*.py --ignore tests/test_checkpoints.py \
    --deselect tests/test_records.py::test_the_schema_that_is_shipped_is_that_of_the_type
fi
if [[ $which != package ]]; then
  with_oldest train train,teacher "$@" tests/qwenvl tests/test_checkpoints.py
fi
