"""GenDB in other forms: Parquet, WebDataset, the published mapping file, a contact sheet.

Run: python image_gen_scripts/gendb.py parquet gendb/ parquet/
     python image_gen_scripts/gendb.py from-mapping DYNEVAL-250K-PROMPTS.json images/
"""

from dyneval.generation.gendb_cli import main

if __name__ == "__main__":
    raise SystemExit(main())
