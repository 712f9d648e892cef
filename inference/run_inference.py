"""Step 5: score images against the prompts they were made from, with a trained DynEval student.

One pair, the result as JSON on stdout:
    python inference/run_inference.py --checkpoint output/dyneval_4b_stage2_iqa --image cat.png --prompt "a cat"
Many pairs, resumable:
    python inference/run_inference.py --checkpoint vcl-iisc/DynEval-Evaluator --subfolder DynEval-4B \
        --metadata gendb/metadata.jsonl --output scores.jsonl

Scores are 1-5, higher is better. Pairs that cannot be scored go to scores.rejects.jsonl; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from functools import partial
from pathlib import Path

from dyneval.scorer.settings import ReplyLimits, ScorerSettings
from dyneval.tokens import DEFAULT_TEMPLATE, TEMPLATE_VERSIONS


def parse_arguments() -> argparse.Namespace:
    """Command line of this script."""
    defaults = ScorerSettings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--checkpoint", required=True, help="checkpoint folder or Hugging Face repository of the student")
    add("--subfolder", help="folder of the student inside the checkpoint, such as DynEval-4B")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", type=Path, help="one image file; needs --prompt")
    what.add_argument("--metadata", type=Path, help="JSONL file with file_name and prompt in each row; needs --output")
    add("--prompt", help="the prompt that --image was made from")
    add("--image-root", type=Path, help="folder that file_name is relative to; default: the folder of --metadata")
    add("--output", type=Path, help="JSONL file that records are appended to; pairs already in it are skipped")
    add("--limit", type=int, help="score only so many rows of --metadata, from its beginning")
    add("--template", choices=TEMPLATE_VERSIONS, default=DEFAULT_TEMPLATE, help="human turns; default: %(default)s")
    add("--alpha", type=float, default=defaults.alpha, help="weight of IQA in overall; default: %(default)s")
    add("--beta", type=float, default=defaults.beta, help="weight of T2IA in overall; default: %(default)s")
    add("--batch-size", type=int, default=defaults.batch_size, help="pairs at a time; default: %(default)s")
    add("--max-new-tokens", type=int, default=defaults.max_new_tokens, help="limit on a reply; default: %(default)s")
    add("--max-questions", type=int, help="cap on questions, objects and relations in a reply; default: generous")
    add("--max-text", type=int, help="cap on the characters of each text in a reply; default: generous")
    add("--min-pixels", type=int, help="smallest image area; default: the checkpoint's")
    add("--max-pixels", type=int, help="largest image area; default: the checkpoint's")
    add("--device", help="torch device; default: the first GPU, else the CPU")
    add("--dtype", choices=("bfloat16", "float16", "float32"), help="default: bfloat16 on a GPU, float32 on the CPU")
    arguments = parser.parse_args()
    if arguments.image and arguments.prompt is None:
        parser.error("--image needs --prompt")
    if arguments.metadata and not arguments.output:
        parser.error("--metadata needs --output")
    return arguments


def main() -> int:
    """Run the command line; returns the exit status."""
    arguments = parse_arguments()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dyneval").setLevel(logging.INFO)
    try:
        settings = ScorerSettings(
            template=arguments.template,
            alpha=arguments.alpha,
            beta=arguments.beta,
            batch_size=arguments.batch_size,
            max_new_tokens=arguments.max_new_tokens,
            limits=ReplyLimits().capped(arguments.max_questions, arguments.max_text),
        )
        return score(arguments, settings)
    except (ValueError, RuntimeError) as error:
        print(f"run_inference: {error}", file=sys.stderr)
        return 1


def score(arguments: argparse.Namespace, settings: ScorerSettings) -> int:
    """Score what the arguments name; returns the exit status."""
    from dyneval.records import ScoreRecord
    from dyneval.scorer import Scorer
    from dyneval.scorer.run import score_file, score_image

    load = partial(
        Scorer.from_pretrained,
        arguments.checkpoint,
        arguments.subfolder,
        device=arguments.device,
        dtype=arguments.dtype,
        min_pixels=arguments.min_pixels,
        max_pixels=arguments.max_pixels,
        settings=settings,
    )
    if arguments.image:
        result = score_image(load, arguments.image, arguments.prompt, arguments.output)
        if not isinstance(result, ScoreRecord):
            raise RuntimeError(f"{arguments.image}: {result.reason}")
        print(json.dumps(result.to_dict(), ensure_ascii=False, indent=2))
        return 0
    summary = score_file(load, arguments.metadata, arguments.output, arguments.image_root, arguments.limit)
    return 1 if summary.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
