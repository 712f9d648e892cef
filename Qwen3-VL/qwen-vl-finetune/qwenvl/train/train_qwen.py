"""Fine-tune a Qwen3-VL on one stage of DynEvalInstruct. `scripts/` start this module with the published recipe.

    $ torchrun --nproc_per_node 8 -m qwenvl.train.train_qwen --model_name_or_path Qwen/Qwen3-VL-2B-Instruct
        --dataset_use dynevalinstruct_t2ia --output_dir output/stage1 --deepspeed scripts/zero3.json

It only reads the command line; `run.py` trains. torch is imported after the first look at the options, so that a
mistyped one is answered at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from dyneval.errors import SettingError
from qwenvl.train.failure import report_failure
from qwenvl.train.usage import first_look, usage


def main(argv: Sequence[str]) -> int:
    """Read the command line and train; return the exit code: 0, 1 failed, 2 wrong command line, 143 stopped."""
    if "--help" in argv or "-h" in argv:
        sys.stdout.write(usage("train_qwen"))
        return 0
    try:
        first_look(argv)
        from qwenvl.train.parsing import build, parse

        arguments = build(parse(argv))
    except SettingError as error:
        # The launcher looks for the reason of a failure in the last value of --output_dir. It is found by hand: the
        # command line may be one that no parser takes.
        words = [part for word in argv for part in (word.split("=", 1) if word.startswith("--output") else [word])]
        named = [after for word, after in pairwise(words) if word in ("--output_dir", "--output-dir")]
        report_failure(Path(named[-1]) if named else None, str(error))
        return 2
    from qwenvl.train.run import run

    return run(*arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
