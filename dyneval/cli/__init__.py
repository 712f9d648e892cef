"""The `dyneval` command: one verb a module of this package, imported only when it is called.

    dyneval score cat.png --prompt "a cat on a bench" --checkpoint output/dyneval_4b_stage2_iqa
    dyneval serve --checkpoint output/dyneval_4b_stage2_iqa

A verb reads its flags into a dataclass (`dyneval.flags`), hands it to the package that does the work, and prints what
came of it. Nothing below this package knows of command lines.

The scripts of the steps, such as `inference/run_inference.py`, are the same verbs under their own names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

# In the order of the five steps, then what looks at results, then what serves, plans and explains; --help shows it.
VERBS = {
    "prompts": "Step 1: filter, deduplicate, tier and select prompts",
    "generate": "Step 2: draw images with text-to-image models",
    "gendb": "what a folder of images holds, parts of it, other forms of it",
    "annotate": "Step 3: let a teacher write questions and answers about images",
    "overall": "the teacher's overall score of every annotated pair",
    "instruct": "build the training data from annotations",
    "published": "annotations from and to the public data set's files",
    "train": "Step 4: check a training run, and start it",
    "score": "Step 5: score images against the prompts they were made from",
    "best": "the best of several images of one prompt, and why",
    "preferences": "pairs of a better and a worse image from scores, to train image models with DPO",
    "merge": "put the parts of a sharded `score` or `annotate` together",
    "benchmark": "agreement of scores with human ratings on published benchmarks",
    "rival": "other metrics' scores of the same images, to compare with",
    "reproduce": "a table of the paper anew from public data, beside the published values",
    "leaderboard": "rank image models by their scores",
    "reliability": "how far the judge agrees with itself: two runs, altered images",
    "check": "stop where a model's scores dropped against a run before; for CI",
    "serve": "score over HTTP, with a page to try it on",
    "doctor": "look whether this machine can score",
    "plan": "what a whole run costs: GPU hours, time, disk, tokens",
    "status": "how far annotation runs are: rate, remaining time, tokens, cost",
    "schema": "print the JSON Schemas of the records in our files",
    "demo": "see a finished demo judge at work, in under a minute",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dyneval VERB ...`; returns the exit status: 0 done, 1 failed (also in part), 2 wrong command line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments[0] if arguments else None
    if verb in VERBS:
        try:
            # Only the module of this verb, so that `--help` stays quick.
            return int(import_module(f"dyneval.cli.{verb}").main(arguments[1:], f"dyneval {verb}"))
        except BrokenPipeError:
            # Whoever read our output has gone (`| head`). Without this the interpreter complains when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
    if verb in ("-V", "--version"):
        from dyneval import __version__

        sys.stdout.write(f"dyneval {__version__}\n")
        return 0
    if verb in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if verb is None:
        sys.stderr.write(_help())
        return 2
    from dyneval.errors import nearest

    near = nearest(verb, VERBS)
    hint = f"did you mean {near}?" if near else "dyneval --help lists them"
    sys.stderr.write(f"dyneval: {verb!r} is no verb; {hint}\n")
    return 2


def _help() -> str:
    verbs = "\n".join(f"  {name:12}{purpose}" for name, purpose in VERBS.items())
    return (
        "usage: dyneval VERB [OPTIONS]\n\n"
        "DynEval judges generated images against their prompts: alignment (T2IA) and quality (IQA), each 1-5.\n\n"
        f"{verbs}\n\n"
        "  --version   print the version\n"
        "  dyneval VERB --help describes a verb\n"
    )
