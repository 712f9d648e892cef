"""Step 1: filter, deduplicate, score, tier and categorise prompts; the same as `dyneval prompts`.

    python extract_diverse_prompts.py --input metadata-large.parquet --output prompts/

The verb is in dyneval/cli/prompts.py; this script is its name among those of the steps.
"""

from dyneval.cli.prompts import main

if __name__ == "__main__":
    raise SystemExit(main())
