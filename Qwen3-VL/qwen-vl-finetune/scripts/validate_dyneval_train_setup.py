"""Preflight: check packages, GPUs, model, task tokens, data, images, lengths, memory and output folders.

python3 scripts/validate_dyneval_train_setup.py [--full] [--json] [--model DIR] [arguments of train_qwen.py]
"""

import sys

from qwenvl.preflight.cli import main

if __name__ == "__main__":
    sys.exit(main())
