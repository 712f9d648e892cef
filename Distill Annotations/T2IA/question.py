"""Ask the teacher for alignment and distortion questions, once a prompt: t2ia_questions.jsonl.

    $ python "Distill Annotations/T2IA/question.py" --metadata gendb/metadata.jsonl --output annotations --base-url http://localhost:8000/v1

Run again, it goes on where it stopped. What it could not get stands in t2ia_questions.rejects.jsonl.
The same as `dyneval annotate --workflow t2ia_questions`.
"""

import sys

from dyneval.cli.annotate import main

if __name__ == "__main__":
    # The published code has a script for each step; this one is `annotate` with one workflow.
    raise SystemExit(main(["--workflow", "t2ia_questions", *sys.argv[1:]]))
