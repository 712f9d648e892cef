# shellcheck shell=bash
# Sourced by the numbered scripts: goes to the repository root and reads the settings file, the first argument. A script
# then names what it needs, and enters .venv: what is missing is told before anything is installed.
set -euo pipefail
# shellcheck source=pipeline/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
settings=${1:-pipeline/full.env}
if [[ ! -f $settings ]]; then
  echo "${0##*/}: no settings file '$settings'; copy pipeline/full.env, edit it and name it as the first argument" >&2
  exit 2
fi
# shellcheck disable=SC1090
source "$settings"
OUTPUT=$(realpath -m "$OUTPUT")

# need PATH WHAT: end with one line where PATH, which may be a pattern, is not there; WHAT says where it comes from.
need() {
  if ! compgen -G "$1" >/dev/null && [[ ! -e $1 ]]; then
    echo "${0##*/}: $1: no such file; $2" >&2
    exit 1
  fi
}

# Set up .venv where it is missing or not current, and enter it.
enter_venv() {
  bash pipeline/setup_env.sh
  # shellcheck disable=SC1091
  source .venv/bin/activate
  mkdir -p "$OUTPUT"
}
