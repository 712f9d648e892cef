#!/usr/bin/env bash
# Makes .venv from nothing and installs DynEval with what the demo, the tests and Steps 1-5 need on any machine.
# Run again it does nothing. PYTHON picks the interpreter, DYNEVAL_EXTRAS the extras (GPU machines: train,generate,ray,report,serve,dev,gpu).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=${DYNEVAL_EXTRAS:-train,generate,ray,report,serve,dev}

# Environments hold absolute paths, so the folder belongs to what makes one current. An environment with more extras than
# are asked for serves, too; one with others gets what it lacks and keeps the rest.
ground="$PWD $(cat pyproject.toml constraints.txt pipeline/setup_env.sh | sha256sum | cut -c1-64)"
there=
if [[ -x .venv/bin/python && "$(head -n 1 .venv/dyneval-stamp 2>/dev/null)" == "$ground" ]]; then
  there=$(sed -n 2p .venv/dyneval-stamp)
fi
missing=()
for extra in ${extras//,/ }; do
  if [[ ",$there," != *",$extra,"* ]]; then missing+=("$extra"); fi
done
if [[ -n $there && ${#missing[@]} -eq 0 ]]; then exit 0; fi
extras=$(IFS=,; echo "${there:+$there,}${missing[*]}")

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
if [[ ! -x .venv/bin/python ]]; then
  for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if is_recent "$python"; then break; fi
    python=
  done
  if [[ -z ${python:-} ]]; then
    echo "setup_env: DynEval needs Python 3.11 or newer; install it or name one: PYTHON=/path/to/python3.11 $0" >&2
    exit 1
  fi
  "$python" -m venv .venv || {
    echo "setup_env: '$python -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
    rm -rf .venv
    exit 1
  }
fi

echo "setup_env: installing into .venv (once, a few minutes)" >&2
# Nothing is compiled ahead: Python compiles a module when it is first used, and most never are.
.venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[$extras]" 2>&1 |
  { grep -v '^WARNING: Location' >&2 || true; }
printf '%s\n' "$ground" "$extras" >.venv/dyneval-stamp
