"""Ask the teacher for the scene graph and the quality questions of each image: iqa_questions.jsonl.

    $ python "Distill Annotations/IQA/question.py" --metadata gendb/metadata.jsonl --output annotations --base-url http://localhost:8000/v1

Run again, it goes on where it stopped. What it could not get stands in iqa_questions.rejects.jsonl.
The same as `dyneval annotate --workflow iqa_questions`.
"""

import sys

from dyneval.cli.annotate import main

if __name__ == "__main__":
    # The published code has a script for each step; this one is `annotate` with one workflow.
    raise SystemExit(main(["--workflow", "iqa_questions", *sys.argv[1:]]))
