#!/usr/bin/env bash
# Sets up .venv and runs the tests. Arguments go to pytest: bash tests/run.sh tests/teacher -k merge
# Three workers (-n N: N) run all tests, a file at a time; one process runs those below a given path.
# Without a path, tests/real_engines is left out, which needs gigabytes of other environments: bash tests/run.sh tests/real_engines
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash pipeline/setup_env.sh
# With it, which containers often set, each command would compile the libraries anew: two thirds of its start.
unset PYTHONDONTWRITEBYTECODE
# The models in the tests are tiny: more threads only make them wait for each other.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
command -v nvidia-smi >/dev/null || export DS_ACCELERATOR=cpu # as pipeline/demo.sh does
# Three for two cores, since workers wait for servers, pages and Ray; four were no faster, and take 2 GB more. In the
# order of tests/conftest.py: xdist's own would begin with the files of most tests.
which=(-n 3 --dist loadfile --no-loadscope-reorder --ignore tests/real_engines)
for argument in "$@"; do
  if [[ -e ${argument%%::*} ]]; then which=(); fi
done
status=0
# tests/coverage.sh has its own Python, and pytest run by coverage.
"${TESTS_PYTHON:-.venv/bin/python}" ${COVERAGE_RC:+-m coverage run --rcfile="$COVERAGE_RC"} -m pytest "${which[@]}" "$@" || status=$?
if ((${#which[@]})); then echo "not run: tests/real_engines (bash tests/run.sh tests/real_engines)" >&2; fi
exit "$status"
