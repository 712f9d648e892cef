"""Convert annotations from and to the public data set's files; the same as `dyneval published`.

$ python "Distill Annotations/convert.py" import --annotations-file DYNEVAL-250K-PROMPTS.json --output annotations
$ python "Distill Annotations/convert.py" export --metadata gendb/metadata.jsonl \
        --annotations annotations --output DIR
"""

from dyneval.cli.published import main

if __name__ == "__main__":
    raise SystemExit(main())
