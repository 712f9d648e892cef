"""The files of the public DynEval data set: read into our records, and written from them."""

from dyneval.records import Workflow

FOLDERS: dict[Workflow, str] = {
    "t2ia_questions": "model-responses/questions",
    "t2ia_answers": "model-responses/answers",
    "iqa_questions": "iqa_outputs",
    "iqa_answers": "iqa_answers",
}
"""Published folders, beside the mapping."""
