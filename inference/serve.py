"""Step 5: score over HTTP, with a page to try it on; the same as `dyneval serve`.

    python inference/serve.py --checkpoint output/dyneval_4b_stage2_iqa --port 8000

The verb is in dyneval/cli/serve.py; this script is its name among those of the steps.
"""

from dyneval.cli.serve import main

if __name__ == "__main__":
    raise SystemExit(main())
