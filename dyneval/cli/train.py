"""Step 4: check model, data and machine before a training run, and start it with --start.

    dyneval train --size 4b --stage 1 --instruct instruct/ --images gendb/
    dyneval train --size 4b --stage 1 --instruct instruct/ --images gendb/ --start
    dyneval train --size 2b --stage 2 --instruct instruct/ --images gendb/ -- --learning_rate 2e-5 --lora_enable True

Prints the command of the run, which works by itself too, and what the preflight finds. Behind `--` stand options of the
training (Qwen3-VL/qwen-vl-finetune/OPTIONS.md). The variables of the launch script count as well.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dyneval.cli.running import run
from dyneval.errors import SettingError
from dyneval.flags import Parser

STAGES = {1: "t2ia", 2: "iqa"}


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status: 1 where a check found an error, else that of the training."""
    parser = Parser(prog, __doc__)
    add = parser.add_argument
    add("--size", choices=("2b", "4b"), default="4b", help="of the student; default: %(default)s")
    add("--stage", type=int, choices=STAGES, default=1, help="1: alignment, 2: quality, from stage 1's output")
    add("--instruct", type=Path, help="folder of `dyneval instruct`; default: DYNEVALINSTRUCT_*_ANNOTATION")
    add("--images", type=Path, help="folder that its image paths are relative to; default: DYNEVALINSTRUCT_*_DATA")
    text = "MODEL_NAME_OR_PATH, else Qwen3-VL; of stage 2 STAGE1_CHECKPOINT, else the output of stage 1"
    add("--model", help=f"model that training starts from, folder or id; default: {text}")
    add("--output", type=Path, help="folder of the runs; default: OUTPUT_ROOT, else ./output")
    add("--full", action="store_true", help="decode every image and count the tokens of every sample")
    add("--start", action="store_true", help="train when the checks found no error")
    add("options", nargs="*", metavar="-- OPTION", help="options of the training")
    arguments = parser.parse_args(argv)
    return run(parser, lambda: _train(arguments))


def _train(arguments: argparse.Namespace) -> int:
    from qwenvl.preflight import SCRIPTS
    from qwenvl.preflight.cli import main as preflight

    script = SCRIPTS / f"sft_qwen_3_vl_{arguments.size}.sh"
    if not script.is_file():
        raise SettingError(f"{script}: is not here; training starts from a clone of the repository, see its README")
    variables = _variables(arguments)
    command = ["bash", str(script), str(arguments.stage), *arguments.options]
    settings = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    sys.stdout.write(f"{' '.join([*settings, shlex.join(command)])}\n\n")
    sys.stdout.flush()
    os.environ.update(variables)
    root = Path(os.environ.get("OUTPUT_ROOT", "output"))
    # The launcher knows the data of its stage; the checks are told.
    os.environ.setdefault("DATASET_USE", f"dynevalinstruct_{STAGES[arguments.stage]}")
    checks = ["--output-root", str(root), *(["--full"] if arguments.full else [])]
    if arguments.stage == 2:
        stage1 = root / f"dyneval_{arguments.size}_stage1_t2ia"
        checks += ["--model", os.environ.get("STAGE1_CHECKPOINT", str(stage1))]
    elif "MODEL_NAME_OR_PATH" not in os.environ:
        checks += ["--model", f"Qwen/Qwen3-VL-{arguments.size.upper()}-Instruct"]
    if preflight([*checks, *arguments.options]):
        return 1
    return subprocess.run(command, check=False).returncode if arguments.start else 0


def _variables(arguments: argparse.Namespace) -> dict[str, str]:
    """The launch script's variables that the flags stand for."""
    found = {}
    for half in STAGES.values():
        if arguments.instruct:
            found[f"DYNEVALINSTRUCT_{half.upper()}_ANNOTATION"] = arguments.instruct / f"dynevalinstruct_{half}.json"
        if arguments.images:
            found[f"DYNEVALINSTRUCT_{half.upper()}_DATA"] = arguments.images
    if arguments.model:
        found["MODEL_NAME_OR_PATH" if arguments.stage == 1 else "STAGE1_CHECKPOINT"] = arguments.model
    if arguments.output:
        found["OUTPUT_ROOT"] = arguments.output
    return {name: str(Path(value).resolve() if isinstance(value, Path) else value) for name, value in found.items()}
