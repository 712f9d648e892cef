"""Reads and writes the annotations of the public data set, one JSON file a pair and workflow.

model-responses/questions/<pair_id>.json   [{question, answer}]
model-responses/answers/<pair_id>.json     {pair_id, ..., answers: [{question, target_answer, reasoning, score}],
                                           raw_response}
iqa_outputs/<pair_id>.json                 {pair_id, ..., scene_graph, questions: [{question, answer}]}
iqa_answers/<pair_id>.json                 {pair_id, ..., answers: [{question, answer, target_answer, correct,
                                           reasoning}], score}

Where the published code could not read a reply of the teacher, it left a score of 0, an empty reasoning, a fixed
sentence in place of the reasoning, or an empty scene graph. Such a file is refused as a whole, without harm to the
other three of the pair: the scores in it are not the teacher's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from dyneval.errors import DataFileError, ImageError
from dyneval.files.atomic import write_json
from dyneval.files.images import resolve_below
from dyneval.published import FOLDERS
from dyneval.published.mapping import MappingEntry
from dyneval.records import (
    Annotation,
    IQAAnswer,
    IQAAnswers,
    IQAQuestions,
    PairRecord,
    Question,
    T2IAAnswer,
    T2IAAnswers,
    T2IAQuestions,
    Workflow,
)

PROVENANCE = {
    "model": "published",
    "engine": "published",
    "prompt_version": "published",
    "attempts": 1,
    "created": "1970-01-01T00:00:00+00:00",
}
"""Published files do not say which model made them, or when; records must say something."""
MOST_BYTES = 1 << 24
"""Largest file that is read; the published ones have some 10 KB."""
ITEM_SCORES = "item_scores"
"""Our own key in the published IQA answers: the score of each question, for which the published form has no key."""
_FAILURE = "failed to parse"
"""The reasoning that the published code writes for a reply that it could not read begins so."""
_T2IA_KEYS = ("question", "target_answer", "reasoning", "score")
_IQA_KEYS = ("question", "answer", "target_answer", "correct", "reasoning")
Json = dict[str, Any]


class MissingFileError(DataFileError):
    """There is no file of this annotation; the message says where it was looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where the files of a pair lie: those that its entry names, relative to `root`, else `folders`/<pair_id>.json.

    Attributes:
        root: folder of the mapping.
        folders: folder of each workflow.
    """

    root: Path
    folders: dict[Workflow, Path]

    @classmethod
    def beside(cls, mapping: Path, given: dict[Workflow, Path | None]) -> Layout:
        """Return the layout of a mapping: `given` folders, and for the other workflows those beside the mapping.

        Raises:
            DataFileError: a given folder does not exist.
        """
        root = mapping.absolute().parent
        for folder in given.values():
            if folder is not None and not folder.is_dir():
                raise DataFileError(f"{folder}: no such folder")
        return cls(root=root, folders={name: given.get(name) or root / folder for name, folder in FOLDERS.items()})

    def file(self, workflow: Workflow, entry: MappingEntry) -> Path:
        """Return the file of an annotation. Raises DataFileError when an entry leads out of the folder."""
        named = {"t2ia_questions": entry.questions_file, "t2ia_answers": entry.response_file}.get(workflow, "")
        folder = self.root if named else self.folders[workflow]
        try:
            return resolve_below(folder, named or f"{entry.pair_id}.json")
        except ImageError as error:
            raise DataFileError(f"{named or entry.pair_id}: leads out of {folder}") from error


def read_annotation(workflow: Workflow, layout: Layout, entry: MappingEntry) -> Annotation:
    """Read one of the four annotations of a pair.

    Raises:
        MissingFileError: it has none.
        DataFileError, SchemaError: it cannot be used; the message names the file.
    """
    path = layout.file(workflow, entry)
    value = _load(path)
    if workflow == "t2ia_questions":  # the one file that is a list, and does not name its pair
        row = {"prompt_id": entry.text_id, "prompt": entry.prompt, "questions": _questions(value, path)}
        return T2IAQuestions.from_dict({**row, "provenance": PROVENANCE}, str(path))
    if not isinstance(value, dict):
        raise DataFileError(f"{path}: expected a JSON object")
    # Two files that change places would give each image the other one's scores.
    name = value.get("pair_id")
    if name is not None and str(name).strip() != entry.pair_id:
        raise DataFileError(f"{path}: belongs to {str(name)[:80]!r}, not to {entry.pair_id}")
    common = {"pair_id": entry.pair_id, "prompt": entry.prompt, "provenance": PROVENANCE}
    if workflow == "t2ia_answers":
        found: Json = {"answers": _answers(value.get("answers"), path, _T2IA_KEYS)}
        if isinstance(value.get("raw_response"), str):
            found["raw_response"] = value["raw_response"]
        return T2IAAnswers.from_dict(common | found, str(path))
    if workflow == "iqa_answers":
        return IQAAnswers.from_dict(common | _iqa_answers(value, path), str(path))
    # {"raw_response": ...} in place of a graph is what the published code writes for a reply that it could not read.
    graph = value.get("scene_graph", {})
    unread = isinstance(graph, dict) and graph.keys() <= {"raw_response"}
    if not isinstance(graph, dict | list) or not graph or unread:
        raise DataFileError(f"{path}: holds no scene graph; the teacher's reply could not be read")
    found = {"scene_graph": graph, "questions": _questions(value.get("questions"), path)}
    return IQAQuestions.from_dict(common | found, str(path))


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)  # one more, so that a larger file is known without reading it all
    except FileNotFoundError:
        # The published teacher script leaves a note beside the file that it could not write.
        note = ""
        with suppress(OSError, ValueError), path.with_suffix(".error.txt").open("rb") as file:
            note = f"; the teacher failed: {' '.join(file.read(200).decode('utf-8', 'replace').split())}"
        raise MissingFileError(f"{path}: no such file{note}") from None
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MOST_BYTES:
        raise DataFileError(f"{path}: over {MOST_BYTES >> 20} MiB, which no annotation has")
    try:
        return orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))  # a byte order mark, as Windows editors leave it
    except ValueError as error:
        raise DataFileError(f"{path}: is not JSON ({error})") from error


def _iqa_answers(row: Json, path: Path) -> Json:
    """Answers and score of an image; our own `item_scores` give both the scores of the answers and an exact mean."""
    answers = _answers(row.get("answers"), path, (*_IQA_KEYS, "score"))
    found: Json = {"answers": answers}
    # The published score is a rounded whole number; with our own scores beside it the mean is exact again.
    scores = row.get(ITEM_SCORES)
    if scores is not None:
        if not isinstance(scores, list) or len(scores) != len(answers) or not all(type(one) is int for one in scores):
            raise DataFileError(f"{path}: {ITEM_SCORES}: expected a whole score for each of the {len(answers)} answers")
        found = {"answers": [{**answer, "score": score} for answer, score in zip(answers, scores, strict=True)]}
        found["score"] = sum(scores) / len(scores)
    elif row.get("score") is not None:
        found["score"] = row["score"]
    return found


def _questions(value: Any, path: Path) -> list[Json]:
    return [
        {"question": _filled(row, "question", path), "answer": _yes_no(row.get("answer"))}
        for row in _rows(value, path, "questions")
    ]


def _answers(value: Any, path: Path, keys: tuple[str, ...]) -> list[Json]:
    """The answers, each with those of `keys` that it has. Raises DataFileError where one lacks question or reason."""
    found = []
    for row in _rows(value, path, "answers"):
        _filled(row, "question", path)
        if _filled(row, "reasoning", path).strip().casefold().startswith(_FAILURE):
            raise DataFileError(f"{path}: the teacher's reply could not be read: {row['reasoning'].strip()[:80]!r}")
        kept = {key: row[key] for key in keys if key in row}
        found.append(kept | {key: _yes_no(kept[key]) for key in ("answer", "target_answer") if key in kept})
    return found


def _rows(value: Any, path: Path, what: str) -> list[Json]:
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise DataFileError(f"{path}: {what}: expected a list of objects that is not empty")
    return value


def _filled(row: Json, name: str, path: Path) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataFileError(f"{path}: {name} is missing or empty, where the teacher's reply could not be read")
    return value


def _yes_no(value: Any) -> Any:
    """Yes or no where a text begins with the word; anything else is left for the record's type to refuse."""
    if not isinstance(value, str) or value in ("yes", "no", ""):
        return value
    word = re.match(r"\W*(yes|no)\b", value, re.IGNORECASE)
    return word[1].lower() if word else value.strip()


# --------------------------------------------------------------------------------------------------------------------
# Writing.


def write_annotation(folder: Path, pair: PairRecord, record: Annotation) -> str:
    """Write one annotation of a pair in the published form.

    IQA answers get the score of the image as the whole number that the published code expects, rounded half to even,
    and the scores of single answers under `item_scores`, which that code does not read.

    Args:
        folder: holds the mapping.
        pair: whose annotation it is.
        record: the annotation.

    Returns:
        The file's path relative to `folder`.
    """
    value: Json = {
        "item_key": pair.pair_id,
        "pair_id": pair.pair_id,
        "text_id": pair.prompt_id,
        "model": pair.generation_model,
        "image_id": pair.pair_id,
        "image_path": pair.file_name,
        "prompt": pair.prompt,
    }
    content: Json | list[Json] = value
    name: Workflow
    if isinstance(record, T2IAQuestions):
        name, content = "t2ia_questions", _keep(record.questions, "question", "answer")
    elif isinstance(record, T2IAAnswers):
        name = "t2ia_answers"
        value |= {"answers": _keep(record.answers, *_T2IA_KEYS), "raw_response": record.raw_response or ""}
    elif isinstance(record, IQAQuestions):
        name = "iqa_questions"
        value |= {"scene_graph": record.graph, "questions": _keep(record.questions, "question", "answer")}
    else:
        name = "iqa_answers"
        # The readers of the published form expect these keys and no others, apart from ours, which they ignore.
        value["answers"] = _keep(record.answers, *_IQA_KEYS)
        if record.score is not None:
            value["score"] = round(record.score)
        if all(answer.score is not None for answer in record.answers):
            value[ITEM_SCORES] = [answer.score for answer in record.answers]
    file = f"{FOLDERS[name]}/{pair.pair_id}.json"
    write_json(folder / file, content)
    return file


def _keep(items: Sequence[Question | T2IAAnswer | IQAAnswer], *names: str) -> list[Json]:
    return [{name: getattr(item, name) for name in names} for item in items]
