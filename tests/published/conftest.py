"""A public data set in small, written as the published scripts write it, and its samples by the published rules."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

IMAGES = "DYNEVAL-250K-IMAGES"
GRAPH = {
    "nodes": [{"id": "object_1", "label": "Café", "attributes": ["red"]}, {"id": "object_2", "label": "cat"}],
    "edges": [{"source": "object_1", "target": "object_2", "relationship": "beside"}],
}


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2), encoding="utf-8")


@dataclass
class PublicSet:
    """A folder with the mapping, the images and the four folders of annotations; `add` makes a good pair."""

    root: Path
    rows: list[dict] = field(default_factory=list)

    @property
    def mapping(self) -> Path:
        return self.root / "DYNEVAL-250K-PROMPTS.json"

    def add(
        self, number: int, *, prompt: str = "", text: str = "", graph: object = GRAPH, scores=(4, 2), **more
    ) -> str:
        """Write the files of a pair and return its pair_id; `text` stands in its questions, `more` in its entry."""
        name = f"D250K-{number:06d}"
        prompt = prompt or f"a café with “{number}” cats"
        image = f"{IMAGES}/{name}.png"
        (self.root / IMAGES).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (number % 256, 0, 0)).save(self.root / image)
        self.rows.append({"pair_id": name, "prompt": prompt, "image_path": image, **more})
        asked = [f"Is part {i} of {text or name} there?" for i in range(len(scores))]
        quality = [f"Is the café {i} of {name} whole?" for i in range(3)]
        head = {"item_key": name, "pair_id": name, "model": "unknown", "prompt": prompt}
        write(self.file("t2ia_questions", name), [{"question": text, "answer": "yes"} for text in asked])
        answers = [
            {"question": question, "target_answer": "yes", "reasoning": "Größe <stimmt>.", "score": score}
            for question, score in zip(asked, scores, strict=True)
        ]
        write(self.file("t2ia_answers", name), {**head, "answers": answers, "raw_response": "{}"})
        questions = [{"question": text, "answer": "no"} for text in quality]
        write(self.file("iqa_questions", name), {**head, "scene_graph": graph, "questions": questions})
        verdicts = [("no", True), ("yes", False), ("", None)]
        judged = [
            {"question": text, "answer": answer, "target_answer": "no", "correct": correct, "reasoning": "Glatt.\nGut."}
            for text, (answer, correct) in zip(quality, verdicts, strict=True)
        ]
        write(self.file("iqa_answers", name), {**head, "answers": judged, "score": 3, "raw_response": "{}"})
        return name

    def file(self, workflow: str, name: str) -> Path:
        """The file of an annotation."""
        folders = {
            "t2ia_questions": "model-responses/questions",
            "t2ia_answers": "model-responses/answers",
            "iqa_questions": "iqa_outputs",
            "iqa_answers": "iqa_answers",
        }
        return self.root / folders[workflow] / f"{name}.json"

    def change(self, workflow: str, name: str, change) -> None:
        """Replace the content of an annotation file by what `change` makes of it."""
        path = self.file(workflow, name)
        write(path, change(json.loads(path.read_text("utf-8"))))

    def close(self) -> Path:
        """Write the mapping and return its path."""
        write(self.mapping, {"prompts": self.rows})
        return self.mapping


@pytest.fixture
def public(tmp_path):
    return PublicSet(tmp_path / "public")


def published_samples(mapping: Path) -> dict[str, tuple[str, str, str | None]]:
    """Samples of a public data set by the rules of the published builder: human turn, gpt value, image; by id."""
    found = {}
    for row in json.loads(mapping.read_text("utf-8"))["prompts"]:
        for name, (human, value, image) in (*_alignment(mapping.parent, row), *_quality(mapping.parent, row)):
            found[f"{row['pair_id']}_{name}"] = (human, json.dumps(value, ensure_ascii=False), image)
    return found


def _load(path):
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def _evaluation(row, questions):
    lines = "\n".join(f"{i}. {item['question'].strip()}" for i, item in enumerate(questions, 1))
    return (
        f"<image>\n<|EVALUATION|>\nPrompt: {row['prompt'].strip()}\nQuestions:\n{lines}\n"
        "Answer each question and assign a score from 1 to 5."
    )


def _alignment(root, row):
    asked = _load(root / row.get("questions_file", f"model-responses/questions/{row['pair_id']}.json"))
    answered = _load(root / row.get("response_file", f"model-responses/answers/{row['pair_id']}.json"))
    if not isinstance(asked, list) or not asked:
        return
    human = f"<|T2IA|>\nPrompt: {row['prompt'].strip()}\nGenerate atomic yes/no verification questions for "
    human += "text-to-image alignment, including distortion checks."
    yield "t2ia_questions", (human, asked, None)
    if answered and answered["answers"]:
        scores = [item["score"] for item in answered["answers"]]
        value = {"answers": answered["answers"], "score": round(sum(scores) / len(scores))}
        yield "t2ia_evaluation", (_evaluation(row, asked), value, row["image_path"])


def _quality(root, row):
    parsed = _load(root / f"iqa_outputs/{row['pair_id']}.json")
    if parsed and parsed["questions"]:
        human = "<image>\n<|IQA|>\nParse the image into a scene graph and generate image-quality questions for "
        human += "shape consistency, distortions, texture fidelity, and spatial cues."
        value = {"scene_graph": parsed.get("scene_graph", {}), "questions": parsed["questions"]}
        yield "iqa_questions", (human, value, row["image_path"])
    judged = _load(root / f"iqa_answers/{row['pair_id']}.json")
    if judged and judged["answers"]:
        value = {"answers": judged["answers"]}
        if isinstance(judged.get("score"), int):
            value["score"] = judged["score"]
        yield "iqa_evaluation", (_evaluation(row, judged["answers"]), value, row["image_path"])
