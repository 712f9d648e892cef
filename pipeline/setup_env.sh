#!/usr/bin/env bash
# Makes .venv from nothing and installs DynEval with what the demo, the tests and Steps 1-5 need on any machine.
# Run again it does nothing. PYTHON picks the interpreter, DYNEVAL_EXTRAS the extras (on GPU machines add gpu).
#
#   bash pipeline/setup_env.sh         -> .venv
#   bash pipeline/setup_env.sh vllm    -> .venv-vllm: Steps 3 and 5 with vLLM, which needs other versions than training
#   bash pipeline/setup_env.sh docs    -> .venv-docs: what builds the documentation, 200 MB
set -euo pipefail
# shellcheck source=pipeline/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in
  "") folder=.venv constraints=constraints.txt extras=${DYNEVAL_EXTRAS:-prompts,generate,teacher,train,report,serve,ray,dev} ;;
  vllm) folder=.venv-vllm constraints=pipeline/locks/vllm.txt extras=vllm,report,serve ;;
  docs) folder=.venv-docs constraints=constraints.txt extras=docs ;;
  *) echo "usage: bash $0 [vllm|docs]" >&2; exit 2 ;;
esac

# Environments hold absolute paths, so the folder belongs to what makes one current. An environment with more extras than
# are asked for serves, too; one with others gets what it lacks and keeps the rest.
ground="$PWD $(cat pyproject.toml "$constraints" pipeline/setup_env.sh | sha256sum | cut -c1-64)"
there=
if [[ -x $folder/bin/python && "$(head -n 1 "$folder/dyneval-stamp" 2>/dev/null)" == "$ground" ]]; then
  there=$(sed -n 2p "$folder/dyneval-stamp")
fi
missing=()
for extra in ${extras//,/ }; do
  if [[ ",$there," != *",$extra,"* ]]; then missing+=("$extra"); fi
done
if [[ -n $there && ${#missing[@]} -eq 0 ]]; then exit 0; fi
extras=$(IFS=,; echo "${there:+$there,}${missing[*]}")

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
if [[ ! -x $folder/bin/python ]]; then
  for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if is_recent "$python"; then break; fi
    python=
  done
  if [[ -z ${python:-} ]]; then
    echo "setup_env: DynEval needs Python 3.11 or newer; install it or name one: PYTHON=/path/to/python3.11 $0" >&2
    exit 1
  fi
  "$python" -m venv "$folder" || {
    echo "setup_env: '$python -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
    rm -rf "$folder"
    exit 1
  }
fi

echo "setup_env: installing into $folder (once, a few minutes)" >&2
# Nothing is compiled ahead: Python compiles a module when it is first used, and most never are.
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check -c "$constraints" -e ".[$extras]" 2>&1 |
  { grep -v '^WARNING: Location' >&2 || true; }
printf '%s\n' "$ground" "$extras" >"$folder/dyneval-stamp"
