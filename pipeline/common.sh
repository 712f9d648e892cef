# shellcheck shell=bash
# Sourced by the numbered scripts: goes to the repository root, sets up and enters .venv, reads the settings file.
set -euo pipefail
# shellcheck source=pipeline/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
settings=${1:-pipeline/full.env}
if [[ ! -f $settings ]]; then
  echo "${0##*/}: no settings file '$settings'; copy pipeline/full.env, edit it and name it as the first argument" >&2
  exit 2
fi
bash pipeline/setup_env.sh
# shellcheck disable=SC1091
source .venv/bin/activate
# shellcheck disable=SC1090
source "$settings"
OUTPUT=$(realpath -m "$OUTPUT")
mkdir -p "$OUTPUT"
