"""Ask the teacher to answer and score (1-5) each image on its own quality questions: iqa_answers.jsonl.

    $ python "Distill Annotations/IQA/answer.py" --metadata gendb/metadata.jsonl --output annotations --base-url http://localhost:8000/v1

Needs iqa_questions.jsonl in the same folder. Run again, it goes on where it stopped.
The same as `dyneval annotate --workflow iqa_answers`.
"""

import sys

from dyneval.cli.annotate import main

if __name__ == "__main__":
    # The published code has a script for each step; this one is `annotate` with one workflow.
    raise SystemExit(main(["--workflow", "iqa_answers", *sys.argv[1:]]))
