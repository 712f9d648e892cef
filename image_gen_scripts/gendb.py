"""What a GenDB holds, parts of it, and other forms of it; the same as `dyneval gendb`.

    python image_gen_scripts/gendb.py stats gendb/
    python image_gen_scripts/gendb.py filter gendb/ part/ --model sdxl --where "width >= 1024" --unique
    python image_gen_scripts/gendb.py parquet gendb/ parquet/
    python image_gen_scripts/gendb.py from-mapping DYNEVAL-250K-PROMPTS.json images/

The verb is in dyneval/cli/gendb.py; this script is its name among those of the steps.
"""

from dyneval.cli.gendb import main

if __name__ == "__main__":
    raise SystemExit(main())
