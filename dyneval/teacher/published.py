"""The published form of the annotations, read and written: one JSON file a pair and workflow, and mapping files.

t2ia_mapping.json, iqa_mapping.json   {"prompts": [{pair_id, text_id, prompt, image_path, questions_file,
                                      response_file, generation_model}]}, paths relative to the mapping's folder
questions_file of T2IA                [{question, answer}]
response_file of T2IA                 {pair_id, prompt, answers: [{question, target_answer, reasoning, score}],
                                      raw_response}
questions_file of IQA                 {pair_id, prompt, scene_graph, questions: [{question, answer}]}
response_file of IQA                  {pair_id, prompt, answers: [{question, answer, target_answer, correct,
                                      reasoning}], score}, with a score an answer where we wrote it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dyneval.images import ImageError, resolve_below
from dyneval.records import IQAAnswers, IQAQuestions, PairRecord, T2IAAnswers, T2IAQuestions
from dyneval.storage import DataFileError, read_json, write_json

Kind = Literal["t2ia", "iqa"]
MAPPINGS: dict[Kind, str] = {"t2ia": "t2ia_mapping.json", "iqa": "iqa_mapping.json"}
_FOLDERS: dict[Kind, str] = {"t2ia": "T2IA", "iqa": "IQA"}
PROVENANCE = {
    "model": "published",
    "engine": "published",
    "prompt_version": "published",
    "attempts": 1,
    "created": "1970-01-01T00:00:00+00:00",
}
"""Where published annotations come from is not in their files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A pair in a mapping file; `text_id` is the prompt's id."""

    pair_id: str
    text_id: str
    prompt: str
    image_path: str
    questions_file: str
    response_file: str
    generation_model: str


def read_mapping(path: Path) -> list[Entry]:
    """Read a mapping file. Raises DataFileError naming the entry that lacks something or stands there twice."""
    value = read_json(path)
    rows = value.get("prompts") if isinstance(value, dict) else None
    if not isinstance(rows, list):
        raise DataFileError(f'{path}: expected {{"prompts": [...]}}')
    entries = [_entry(path, number, row) for number, row in enumerate(rows)]
    seen: set[str] = set()
    for entry in entries:
        if entry.pair_id in seen:
            raise DataFileError(f"{path}: {entry.pair_id} stands there twice")
        seen.add(entry.pair_id)
    return entries


def read_t2ia_questions(folder: Path, entry: Entry) -> T2IAQuestions:
    """Read the T2IA questions of a pair. Raises DataFileError or SchemaError, naming the file."""
    path = _below(folder, entry.questions_file)
    row = {"prompt_id": entry.text_id, "prompt": entry.prompt, "questions": _rows(read_json(path), path, "answer")}
    return T2IAQuestions.from_dict({**row, "provenance": PROVENANCE}, str(path))


def read_t2ia_answers(folder: Path, entry: Entry) -> T2IAAnswers:
    """Read the T2IA answers of a pair. Raises DataFileError or SchemaError, naming the file."""
    path, row = _response(folder, entry)
    row["answers"] = _rows(row.get("answers"), path, "target_answer")
    return T2IAAnswers.from_dict({**row, "provenance": PROVENANCE}, str(path))


def read_iqa_questions(folder: Path, entry: Entry) -> IQAQuestions:
    """Read scene graph and IQA questions of a pair. Raises DataFileError or SchemaError, naming the file."""
    path = _below(folder, entry.questions_file)
    row = _of_pair(read_json(path), path, entry)
    row["questions"] = _rows(row.get("questions"), path, "answer")
    return IQAQuestions.from_dict({**row, "provenance": PROVENANCE}, str(path))


def read_iqa_answers(folder: Path, entry: Entry) -> tuple[IQAAnswers, bool]:
    """Read the IQA answers of a pair, and whether scores were made from `correct`: 5 for true, 1 for false.

    Raises DataFileError or SchemaError, naming the file.
    """
    path, row = _response(folder, entry)
    answers = _rows(row.get("answers"), path, "target_answer", "answer")
    by_correct = not any("score" in answer for answer in answers)
    if by_correct:
        answers = [{**answer, "score": 5 if _correct(answer, path) else 1} for answer in answers]
    row["answers"] = answers
    return IQAAnswers.from_dict({**row, "provenance": PROVENANCE}, str(path)), by_correct


class Writer:
    """Writes annotations of pairs in the published form, below one folder; `close` writes the mapping files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mappings: dict[Kind, list[Entry]] = {"t2ia": [], "iqa": []}

    def add_t2ia(self, pair: PairRecord, questions: T2IAQuestions, answers: T2IAAnswers) -> None:
        """Write the T2IA files of a pair."""
        entry = self._add("t2ia", pair)
        keys = ("question", "target_answer", "reasoning", "score")
        write_json(self.folder / entry.questions_file, _keep(questions.questions, "question", "answer"))
        response: dict[str, Any] = {
            "pair_id": pair.pair_id,
            "prompt": pair.prompt,
            "answers": _keep(answers.answers, *keys),
            "raw_response": answers.raw_response or "",
        }
        write_json(self.folder / entry.response_file, response)

    def add_iqa(self, pair: PairRecord, questions: IQAQuestions, answers: IQAAnswers) -> None:
        """Write the IQA files of a pair; answers have a `score` each, which the published ones lack."""
        entry = self._add("iqa", pair)
        common = {"pair_id": pair.pair_id, "prompt": pair.prompt}
        asked = _keep(questions.questions, "question", "answer")
        keys = ("question", "answer", "target_answer", "correct", "reasoning", "score")
        graph = {**common, "scene_graph": questions.scene_graph, "questions": asked}
        response = {**common, "answers": _keep(answers.answers, *keys), "score": answers.score}
        write_json(self.folder / entry.questions_file, graph)
        write_json(self.folder / entry.response_file, response)

    def close(self) -> None:
        """Write the mapping files."""
        for kind, entries in self.mappings.items():
            write_json(self.folder / MAPPINGS[kind], {"prompts": [asdict(entry) for entry in entries]})

    def _add(self, kind: Kind, pair: PairRecord) -> Entry:
        entry = Entry(
            pair_id=pair.pair_id,
            text_id=pair.prompt_id,
            prompt=pair.prompt,
            image_path=pair.file_name,
            questions_file=f"{_FOLDERS[kind]}/questions/{pair.pair_id}.json",
            response_file=f"{_FOLDERS[kind]}/answers/{pair.pair_id}.json",
            generation_model=pair.generation_model,
        )
        self.mappings[kind].append(entry)
        return entry


def _entry(path: Path, number: int, row: Any) -> Entry:
    names = Entry.__dataclass_fields__
    if not isinstance(row, dict):
        raise DataFileError(f"{path}: entry {number} is no object")
    values = {name: row[name] if type(row.get(name)) is not int else str(row[name]) for name in names if name in row}
    wrong = [name for name in names if not isinstance(values.get(name), str) or not values[name]]
    if wrong:
        raise DataFileError(f"{path}: entry {number} ({row.get('pair_id')}): {', '.join(wrong)} missing or no text")
    return Entry(**values)


def _below(folder: Path, name: str) -> Path:
    try:
        return resolve_below(folder, name)
    except ImageError as error:
        raise DataFileError(f"{name}: leads out of {folder}") from error


def _response(folder: Path, entry: Entry) -> tuple[Path, dict[str, Any]]:
    path = _below(folder, entry.response_file)
    return path, _of_pair(read_json(path), path, entry)


def _of_pair(value: Any, path: Path, entry: Entry) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataFileError(f"{path}: expected a JSON object")
    if value.get("pair_id", entry.pair_id) != entry.pair_id:
        raise DataFileError(f"{path}: belongs to {value['pair_id']}, not to {entry.pair_id}")
    return {**value, "pair_id": entry.pair_id, "prompt": entry.prompt}


def _rows(value: Any, path: Path, *yes_no: str) -> list[dict[str, Any]]:
    """A list of objects, the answers under `yes_no` in lower case."""
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise DataFileError(f"{path}: expected a list of questions or answers")
    lower: Callable[[Any], Any] = lambda word: word.strip().lower() if isinstance(word, str) else word  # noqa: E731
    return [{**row, **{name: lower(row[name]) for name in yes_no if name in row}} for row in value]


def _correct(answer: dict[str, Any], path: Path) -> bool:
    if not isinstance(answer.get("correct"), bool):
        raise DataFileError(f"{path}: an answer has neither a score nor correct: true or false")
    return bool(answer["correct"])


def _keep(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: row[name] for name in names if name in row} for row in rows]
