#!/usr/bin/env bash
# Writes the locks anew, for Linux on x86-64 and Python 3.11: bash pipeline/locks/update.sh
#   serve.txt   what the Dockerfile installs: the versions of constraints.txt, with hashes
#   vllm.txt    what `bash pipeline/setup_env.sh vllm` installs: vLLM, and of the rest the newest that it admits
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash pipeline/setup_env.sh
compile=(.venv/bin/uv --quiet pip compile --python-version 3.11 --python-platform x86_64-unknown-linux-gnu
  --no-annotate --custom-compile-command "bash pipeline/locks/update.sh" --upgrade pyproject.toml)
# hatchling builds the package itself.
"${compile[@]}" - --extra local --extra teacher --extra eval --extra serve --generate-hashes -c constraints.txt -o pipeline/locks/serve.txt <<<hatchling
"${compile[@]}" --extra vllm --extra report --extra serve -o pipeline/locks/vllm.txt
