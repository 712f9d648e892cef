#!/usr/bin/env bash
# Sets up .venv and runs the tests. Arguments go to pytest: bash tests/run.sh tests/teacher -k merge
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash pipeline/setup_env.sh
# The models in the tests are tiny: more threads only make them wait for each other.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
exec .venv/bin/python -m pytest "$@"
