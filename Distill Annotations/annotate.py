"""Run all four teacher annotations, image by image; the same as `dyneval annotate`.

    $ python "Distill Annotations/annotate.py" --metadata gendb/metadata.jsonl --output annotations --base-url http://localhost:8000/v1

Writes t2ia_questions.jsonl, t2ia_answers.jsonl, iqa_questions.jsonl and iqa_answers.jsonl. Run again, it goes on
where it stopped; what could not be annotated stands in the *.rejects.jsonl beside them.
"""

from dyneval.cli.annotate import main

if __name__ == "__main__":
    raise SystemExit(main())
