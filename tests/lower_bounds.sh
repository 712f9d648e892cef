#!/usr/bin/env bash
# Runs the tests with the oldest versions that pyproject.toml admits, in an environment of its own (6 GB, made anew).
# Before a release, and where a bound is changed: bash tests/lower_bounds.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash pipeline/setup_env.sh
folder=.venv-tests/lower-bounds
uv=(.venv/bin/uv --quiet)
"${uv[@]}" venv --clear --python .venv/bin/python "$folder"
# Of each package that pyproject.toml names the oldest; of those behind them the newest that suit.
"${uv[@]}" pip install --python "$folder/bin/python" --resolution lowest-direct -e '.[prompts,teacher,train,report,excel,serve]'
"${uv[@]}" pip freeze --python "$folder/bin/python" | grep '==' >"$folder/versions.txt"
# What runs the tests may be new, as long as it leaves those alone.
"${uv[@]}" pip install --python "$folder/bin/python" -c "$folder/versions.txt" \
  hypothesis jsonschema playwright pytest pytest-timeout pytest-xdist tiktoken
grep -E '^(torch|transformers|llguidance|openai|numpy|pillow|polars|deepspeed|peft)==' "$folder/versions.txt"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
if (($# == 0)); then
  set -- -q -n 2 --dist loadfile tests/cli tests/evaluation tests/files tests/instruct tests/llm tests/prompts \
    tests/qwenvl tests/scorer tests/serve tests/teacher tests/test_*.py
fi
exec "$folder/bin/python" -m pytest "$@"
