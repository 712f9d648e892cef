"""Ask the teacher for alignment and distortion questions, once a prompt: t2ia_questions.jsonl.

    python "Distill Annotations/T2IA/question.py" --metadata gendb/metadata.jsonl --output annotations --base-url http://localhost:8000/v1

Run again, it goes on where it stopped. What it could not get stands in t2ia_questions.rejects.jsonl.
"""

from dyneval.teacher.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["t2ia_questions"], __doc__))
