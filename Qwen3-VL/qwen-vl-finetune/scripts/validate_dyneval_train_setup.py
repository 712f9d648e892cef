"""Preflight: check packages, GPUs, model, task tokens, data, images, lengths, memory and output folders.

$ python3 scripts/validate_dyneval_train_setup.py [--full] [--json] [--model DIR] [arguments of train_qwen.py]
"""

import sys

# It imports torch only for a check that needs it, so that a missing package is a finding and not a traceback.
from qwenvl.preflight.cli import main

if __name__ == "__main__":
    sys.exit(main())
