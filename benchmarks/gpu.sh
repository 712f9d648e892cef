#!/usr/bin/env bash
# What DynEval does on one GPU, in at most twelve minutes: bash benchmarks/gpu.sh [--dry] [--minutes 12] [--output FILE]
# Parts come by their worth, each line is written to FILE (gpu.txt) at once, and a part that fails or takes too long is
# said and passed over. --dry runs all parts on the CPU with tiny models, so that nothing but the card is unknown.
# PYTHON and VLLM_PYTHON name interpreters with DynEval's packages; default: .venv, and .venv-vllm where it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -z ${PYTHON:-} ]]; then
  bash pipeline/setup_env.sh
  PYTHON=.venv/bin/python
fi
exec "$PYTHON" benchmarks/gpu.py "$@"
