#!/usr/bin/env bash
# Coverage by package, commands that tests start included: bash tests/coverage.sh [arguments of pytest]
# It takes over twice the time of `bash tests/run.sh`: every command gets an interpreter of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash pipeline/setup_env.sh
command -v nvidia-smi >/dev/null || export DS_ACCELERATOR=cpu
# In an environment of its own, so that .venv stays as users have it.
python=$(.venv/bin/python -c 'from tests.environments import environment; print(environment("coverage"))')
kept=$PWD/output/coverage
rm -rf "$kept" && mkdir -p "$kept"
cat >"$kept/rc" <<RC
[run]
source = $PWD/dyneval, $PWD/Qwen3-VL/qwen-vl-finetune/qwenvl
data_file = $kept/data
parallel = True
patch = subprocess
RC
status=0
TESTS_FRESH_PROCESSES=1 TESTS_PYTHON=$python COVERAGE_RC=$kept/rc bash tests/run.sh -q "$@" || status=$?
"$python" -m coverage combine --rcfile="$kept/rc" --quiet
"$python" -m coverage json --rcfile="$kept/rc" --quiet -o "$kept/coverage.json"
"$python" - "$kept/coverage.json" <<'BY_PACKAGE'
import json
import sys
from collections import Counter
from pathlib import Path

lines, covered = Counter(), Counter()
for name, found in json.loads(Path(sys.argv[1]).read_text())["files"].items():
    parts = Path(name.partition("qwen-vl-finetune/")[2] or name).parts
    package = "/".join(parts[:2]) if len(parts) > 2 else f"{parts[0]}/*.py"
    lines[package] += found["summary"]["num_statements"]
    covered[package] += found["summary"]["covered_lines"]
print("| package | statements | covered |\n|---|---:|---:|")
for package in sorted(lines):
    print(f"| `{package}` | {lines[package]:,} | {100 * covered[package] / lines[package]:.0f} % |")
print(f"| all | {lines.total():,} | {100 * covered.total() / lines.total():.0f} % |")
BY_PACKAGE
exit "$status"
