"""The annotations of the public data set, one JSON file a pair and workflow: read into our records, written from them.

model-responses/questions/<pair_id>.json   [{question, answer}]
model-responses/answers/<pair_id>.json     {pair_id, ..., answers: [{question, target_answer, reasoning, score}],
                                           raw_response}
iqa_outputs/<pair_id>.json                 {pair_id, ..., scene_graph, questions: [{question, answer}]}
iqa_answers/<pair_id>.json                 {pair_id, ..., answers: [{question, answer, target_answer, correct,
                                           reasoning}], score}

A reply of the teacher that could not be read left a score of 0, an empty reasoning, a fixed sentence in its place, or
an empty scene graph. Such files are refused as a whole, each without harm to the other three of the pair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from dyneval.errors import DataFileError, ImageError
from dyneval.files.atomic import write_json
from dyneval.files.images import resolve_below
from dyneval.published import FOLDERS
from dyneval.published.mapping import Entry
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
"""Where published annotations come from is not in their files."""
MOST_BYTES = 1 << 24
"""Of a file; the published ones have some 10 KB."""
ITEM_SCORES = "item_scores"
"""Our own key in the published IQA answers: a score a question, which the published form has no place for."""
_FAILURE = "failed to parse"
"""Beginning of the reasoning that the published code writes where it could not read the teacher's reply."""
_T2IA_KEYS = ("question", "target_answer", "reasoning", "score")
_IQA_KEYS = ("question", "answer", "target_answer", "correct", "reasoning")
Json = dict[str, Any]


class MissingFileError(DataFileError):
    """There is no file of this annotation; the message says where it was looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where the files of a pair lie: those that its entry names, relative to `root`, else `folders`/<pair_id>.json."""

    root: Path
    folders: dict[Workflow, Path]

    @classmethod
    def beside(cls, mapping: Path, given: dict[Workflow, Path | None]) -> Layout:
        """The layout of a mapping: the folders given, the published ones beside it for the others.

        Raises DataFileError when a folder that was given is none.
        """
        root = mapping.absolute().parent
        for folder in given.values():
            if folder is not None and not folder.is_dir():
                raise DataFileError(f"{folder}: no such folder")
        return cls(root=root, folders={name: given.get(name) or root / folder for name, folder in FOLDERS.items()})

    def file(self, workflow: Workflow, entry: Entry) -> Path:
        """The file of an annotation. Raises DataFileError when it lies outside the folder."""
        named = {"t2ia_questions": entry.questions_file, "t2ia_answers": entry.response_file}.get(workflow, "")
        folder = self.root if named else self.folders[workflow]
        try:
            return resolve_below(folder, named or f"{entry.pair_id}.json")
        except ImageError as error:
            raise DataFileError(f"{named or entry.pair_id}: leads out of {folder}") from error


def read_annotation(workflow: Workflow, layout: Layout, entry: Entry) -> Annotation:
    """Read one of the four annotations of a pair.

    Raises:
        MissingFileError: it has none.
        DataFileError, SchemaError: it cannot be used; the message names the file.
    """
    path = layout.file(workflow, entry)
    return _READERS[workflow](_load(path), path, entry)


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file{_teacher_error(path)}") from None
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MOST_BYTES:
        raise DataFileError(f"{path}: over {MOST_BYTES >> 20} MiB, which no annotation has")
    try:
        return orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise DataFileError(f"{path}: is not JSON ({error})") from error


def _teacher_error(path: Path) -> str:
    """What the published teacher script left beside the file that it could not write."""
    try:
        with path.with_suffix(".error.txt").open("rb") as file:
            text = file.read(200).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
    return f"; the teacher failed: {' '.join(text.split())}"


def _t2ia_questions(value: Any, path: Path, entry: Entry) -> T2IAQuestions:
    row = {"prompt_id": entry.text_id, "prompt": entry.prompt, "questions": _questions(value, path)}
    return T2IAQuestions.from_dict({**row, "provenance": PROVENANCE}, str(path))


def _t2ia_answers(value: Any, path: Path, entry: Entry) -> T2IAAnswers:
    row = _of_pair(value, path, entry)
    found: Json = {"answers": _answers(row.get("answers"), path, _T2IA_KEYS)}
    if isinstance(row.get("raw_response"), str):
        found["raw_response"] = row["raw_response"]
    return T2IAAnswers.from_dict({**_common(entry), **found}, str(path))


def _iqa_questions(value: Any, path: Path, entry: Entry) -> IQAQuestions:
    row = _of_pair(value, path, entry)
    graph = row.get("scene_graph", {})
    unread = isinstance(graph, dict) and graph.keys() <= {"raw_response"}
    if not isinstance(graph, dict | list) or not graph or unread:
        raise DataFileError(f"{path}: holds no scene graph; the teacher's reply could not be read")
    found = {"scene_graph": graph, "questions": _questions(row.get("questions"), path)}
    return IQAQuestions.from_dict({**_common(entry), **found}, str(path))


def _iqa_answers(value: Any, path: Path, entry: Entry) -> IQAAnswers:
    row = _of_pair(value, path, entry)
    answers = _answers(row.get("answers"), path, (*_IQA_KEYS, "score"))
    found: Json = {"answers": answers}
    scores = row.get(ITEM_SCORES)
    if scores is not None:
        if not isinstance(scores, list) or len(scores) != len(answers) or not all(type(one) is int for one in scores):
            raise DataFileError(f"{path}: {ITEM_SCORES}: expected a whole score for each of the {len(answers)} answers")
        found = {"answers": [{**answer, "score": score} for answer, score in zip(answers, scores, strict=True)]}
        found["score"] = sum(scores) / len(scores)
    elif row.get("score") is not None:
        found["score"] = row["score"]
    return IQAAnswers.from_dict({**_common(entry), **found}, str(path))


_READERS: dict[Workflow, Callable[[Any, Path, Entry], Annotation]] = {
    "t2ia_questions": _t2ia_questions,
    "t2ia_answers": _t2ia_answers,
    "iqa_questions": _iqa_questions,
    "iqa_answers": _iqa_answers,
}


def _common(entry: Entry) -> Json:
    return {"pair_id": entry.pair_id, "prompt": entry.prompt, "provenance": PROVENANCE}


def _of_pair(value: Any, path: Path, entry: Entry) -> Json:
    if not isinstance(value, dict):
        raise DataFileError(f"{path}: expected a JSON object")
    name = value.get("pair_id")
    if name is not None and str(name).strip() != entry.pair_id:
        raise DataFileError(f"{path}: belongs to {str(name)[:80]!r}, not to {entry.pair_id}")
    return value


def _questions(value: Any, path: Path) -> list[Json]:
    return [
        {"question": _filled(row, "question", path), "answer": _yes_no(row.get("answer"))}
        for row in _rows(value, path, "questions")
    ]


def _answers(value: Any, path: Path, keys: tuple[str, ...]) -> list[Json]:
    """Answers with those of `keys` that they have, each with a question and a reason that the teacher gave."""
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
    """Yes or no where a text begins with the word; anything else as it is, for the schema to judge."""
    if not isinstance(value, str) or value in ("yes", "no", ""):
        return value
    word = re.match(r"\W*(yes|no)\b", value, re.IGNORECASE)
    return word[1].lower() if word else value.strip()


# --------------------------------------------------------------------------------------------------------------------
# Writing.


def write_annotation(folder: Path, pair: PairRecord, record: Annotation) -> str:
    """Write one annotation of a pair below `folder`, which holds the mapping; returns the file's path relative to it.

    IQA answers get the score of the image as the whole number that the published code expects, rounded half to even,
    and the scores of single answers under `item_scores`, which it does not read.
    """
    name, value = _published(record)
    file = f"{FOLDERS[name]}/{pair.pair_id}.json"
    write_json(folder / file, value if isinstance(value, list) else _head(pair) | value)
    return file


def _published(record: Annotation) -> tuple[Workflow, Json | list[Json]]:
    if isinstance(record, T2IAQuestions):
        return "t2ia_questions", _keep(record.questions, "question", "answer")
    if isinstance(record, T2IAAnswers):
        answers = _keep(record.answers, *_T2IA_KEYS)
        return "t2ia_answers", {"answers": answers, "raw_response": record.raw_response or ""}
    if isinstance(record, IQAQuestions):
        questions = _keep(record.questions, "question", "answer")
        return "iqa_questions", {"scene_graph": record.graph, "questions": questions}
    return "iqa_answers", _quality(record)


def _head(pair: PairRecord) -> Json:
    return {
        "item_key": pair.pair_id,
        "pair_id": pair.pair_id,
        "text_id": pair.prompt_id,
        "model": pair.generation_model,
        "image_id": pair.pair_id,
        "image_path": pair.file_name,
        "prompt": pair.prompt,
    }


def _quality(record: IQAAnswers) -> Json:
    value: Json = {"answers": _keep(record.answers, *_IQA_KEYS)}
    if record.score is not None:
        value["score"] = round(record.score)
    if all(answer.score is not None for answer in record.answers):
        value[ITEM_SCORES] = [answer.score for answer in record.answers]
    return value


def _keep(items: Sequence[Question | T2IAAnswer | IQAAnswer], *names: str) -> list[Json]:
    return [{name: getattr(item, name) for name in names} for item in items]
