"""Step 5: score images against the prompts they were made from; the same as `dyneval score`.

One pair, the result as JSON on stdout:
    python inference/run_inference.py --checkpoint output/dyneval_4b_stage2_iqa --image cat.png --prompt "a cat"
Many pairs, resumable:
    python inference/run_inference.py --checkpoint dyneval-4b --metadata gendb/metadata.jsonl --output scores.jsonl

The verb is in dyneval/cli/score.py; this script is its name among those of the steps.
"""

from dyneval.cli.score import main

if __name__ == "__main__":
    raise SystemExit(main())
