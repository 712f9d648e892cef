#!/usr/bin/env bash
# Sets up .venv and runs the tests. Arguments go to pytest: bash tests/run.sh tests/teacher -k merge
# All tests are run by two workers (-n N: by N), which take a file at a time; those below a given path by one process.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash pipeline/setup_env.sh
# The models in the tests are tiny: more threads only make them wait for each other.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
command -v nvidia-smi >/dev/null || export DS_ACCELERATOR=cpu # as pipeline/demo.sh does
# In their own order, the small files come last and the workers end together.
workers=(-n 2 --dist loadfile --no-loadscope-reorder)
for argument in "$@"; do
  if [[ -e ${argument%%::*} ]]; then workers=(); fi
done
# tests/coverage.sh has its own Python, and pytest run by coverage.
exec "${TESTS_PYTHON:-.venv/bin/python}" ${COVERAGE_RC:+-m coverage run --rcfile="$COVERAGE_RC"} -m pytest "${workers[@]}" "$@"
