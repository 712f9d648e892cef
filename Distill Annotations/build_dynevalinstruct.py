"""Build DynEvalInstruct from the teacher's annotations; the same as `dyneval instruct`.

$ python "Distill Annotations/build_dynevalinstruct.py" --metadata gendb/metadata.jsonl --annotations annotations \
        --output instruct
"""

from dyneval.cli.instruct import main

if __name__ == "__main__":
    raise SystemExit(main())
