"""Step 4: check model, data and machine before a training run, and start it with --start.

    dyneval train --size 4b --stage 1 --instruct instruct/ --images gendb/
    dyneval train --size 4b --stage 1 --instruct instruct/ --images gendb/ --start
    dyneval train --size 2b --stage 2 --instruct instruct/ --images gendb/ -- --learning_rate 2e-5 --lora_enable True

Prints the command of the run, which works by itself too, and what the preflight finds. Behind `--` stand options of the
training (Qwen3-VL/qwen-vl-finetune/OPTIONS.md). The variables of the launch script count as well.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dyneval.cli.running import run
from dyneval.errors import SettingError
from dyneval.flags import Parser, arg

# What each stage trains, as the data sets and output folders are called.
STAGES = {1: "t2ia", 2: "iqa"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """Which run is checked, on which data."""

    size: Annotated[Literal["2b", "4b"], arg("of the student")] = "4b"
    stage: Annotated[Literal[1, 2], arg("1: alignment, 2: quality, from stage 1's output")] = 1
    instruct: Annotated[Path | None, arg("folder of `dyneval instruct`; default: DYNEVALINSTRUCT_*_ANNOTATION")] = None
    images: Annotated[
        Path | None, arg("folder that its image paths are relative to; default: DYNEVALINSTRUCT_*_DATA")
    ] = None
    model: Annotated[
        str | None,
        arg(
            "model that training starts from, folder or id; default: MODEL_NAME_OR_PATH, else Qwen3-VL; of stage 2 "
            "STAGE1_CHECKPOINT, else the output of stage 1"
        ),
    ] = None
    output: Annotated[Path | None, arg("folder of the runs; default: OUTPUT_ROOT, else ./output")] = None
    full: Annotated[bool, arg("decode every image and count the tokens of every sample")] = False
    start: Annotated[bool, arg("train when the checks found no error")] = False
    options: Annotated[tuple[str, ...], arg("options of the training", position=True, metavar="-- OPTION")] = ()


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(TrainOptions, argv)
    return run(parser, _train, options)


def _train(options: TrainOptions) -> int:
    from qwenvl.preflight import SCRIPTS
    from qwenvl.preflight.cli import main as preflight

    script = SCRIPTS / f"sft_qwen_3_vl_{options.size}.sh"
    # A wheel brings the modules of training along, and not the folder of its launch scripts.
    if not script.is_file():
        raise SettingError(
            "the launch scripts are not part of the installed package: clone the repository and install it from there "
            "with `pip install -e '.[train]'`, or use the .venv that `bash pipeline/setup_env.sh` makes in it"
        )
    # The launch script's variables that the flags stand for; absolute, since the script changes its folder.
    found: dict[str, Path | str] = {}
    for part in STAGES.values():
        if options.instruct:
            found[f"DYNEVALINSTRUCT_{part.upper()}_ANNOTATION"] = options.instruct / f"dynevalinstruct_{part}.json"
        if options.images:
            found[f"DYNEVALINSTRUCT_{part.upper()}_DATA"] = options.images
    if options.model:
        found["MODEL_NAME_OR_PATH" if options.stage == 1 else "STAGE1_CHECKPOINT"] = options.model
    if options.output:
        found["OUTPUT_ROOT"] = options.output
    variables = {name: str(one.resolve() if isinstance(one, Path) else one) for name, one in found.items()}
    command = ["bash", str(script), str(options.stage), *options.options]
    settings = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    # Printed first: where the checks find a fault, the command is what is to be corrected.
    sys.stdout.write(f"{' '.join([*settings, shlex.join(command)])}\n\n")
    sys.stdout.flush()
    # The checks run in this process and read the same variables as the script.
    os.environ.update(variables)
    root = Path(os.environ.get("OUTPUT_ROOT", "output"))
    # The launch script knows the data of its stage by itself; the checks are told here.
    os.environ.setdefault("DATASET_USE", f"dynevalinstruct_{STAGES[options.stage]}")
    checks = ["--output-root", str(root), *(["--full"] if options.full else [])]
    if options.stage == 2:
        stage1 = root / f"dyneval_{options.size}_stage1_t2ia"
        checks += ["--model", os.environ.get("STAGE1_CHECKPOINT", str(stage1))]
    elif "MODEL_NAME_OR_PATH" not in os.environ:
        checks += ["--model", f"Qwen/Qwen3-VL-{options.size.upper()}-Instruct"]
    if preflight([*checks, *options.options]):
        return 1
    return subprocess.run(command, check=False).returncode if options.start else 0
