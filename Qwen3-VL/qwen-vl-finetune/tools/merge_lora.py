"""Merge the adapters of a run with --lora_enable into the model that they were trained on.

    $ python3 tools/merge_lora.py --checkpoint output/dyneval_4b_stage1_t2ia/checkpoint-1000 --output merged

A finished run has done so by itself; this is for its checkpoints. The result loads like any Qwen3-VL checkpoint.
"""

import argparse
import sys
from pathlib import Path

from dyneval.errors import UserError


def main() -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description="Merge adapters into their base model.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder with adapter_config.json")
    parser.add_argument("--output", type=Path, required=True, help="folder of the merged checkpoint")
    parser.add_argument("--model_name_or_path", help="base model; default: the one that the adapters name")
    chosen = parser.parse_args()
    # After the command line: torch and peft take seconds to import, which --help need not wait for.
    from qwenvl.train.lora import merge_adapter

    try:
        merge_adapter(chosen.checkpoint, chosen.output, chosen.model_name_or_path)
    except (UserError, OSError) as error:
        sys.exit(f"merge_lora: {error}")
    print(f"merged: {chosen.output}")


if __name__ == "__main__":
    main()
