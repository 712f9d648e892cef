"""Step 1: filter, deduplicate, score, tier and categorise prompts; the same as `dyneval prompts`.

python extract_diverse_prompts.py --input metadata-large.parquet --output prompts/
"""

from dyneval.cli.prompts import main

if __name__ == "__main__":
    raise SystemExit(main())
