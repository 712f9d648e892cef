"""Step 2: draw images by model, by tier, or with all models; each prompt goes to a model of its tier.

    python image_gen_scripts/generate.py --model flux1-dev --prompts prompts/prompts.parquet --output gendb/ --limit 100
    python image_gen_scripts/generate.py --all --family demo --prompts prompts.parquet --output gendb/

The same as `dyneval generate`. `--list` says what this machine can run; `--help` explains the rest.
"""

from dyneval.cli.generate import main

if __name__ == "__main__":
    raise SystemExit(main())
