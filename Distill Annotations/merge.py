"""Put the annotation files of shards together; the same as `dyneval merge annotations`.

$ python "Distill Annotations/merge.py" --output annotations --metadata gendb/metadata.jsonl
"""

from dyneval.cli.merge import main

if __name__ == "__main__":
    raise SystemExit(main())
