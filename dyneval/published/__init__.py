"""The files of the public DynEval data set (`vcl-iisc/DynEval-dataset`): read into our records, and written from them.

`convert` has the two commands, `mapping` the list of all pairs, `annotations` the one JSON file a pair and workflow.
"""

from dyneval.records import Workflow

FOLDERS: dict[Workflow, str] = {
    "t2ia_questions": "model-responses/questions",
    "t2ia_answers": "model-responses/answers",
    "iqa_questions": "iqa_outputs",
    "iqa_answers": "iqa_answers",
}
"""Folder of each workflow's files in the public data set, beside the mapping."""
