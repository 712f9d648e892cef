"""Training data small enough for a test: coloured squares, and the samples of both stages."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from dyneval.tokens import evaluation_turn, iqa_turn, t2ia_turn


@pytest.fixture(autouse=True)
def no_deepspeed_is_left() -> Iterator[None]:
    """transformers remembers a wrong configuration for as long as its error is held; the next model would not load."""
    yield
    if (module := sys.modules.get("transformers.integrations.deepspeed")) is not None:
        module.unset_hf_deepspeed_config()


@dataclass
class InstructData:
    """Annotation files of both stages and the folder of their images."""

    root: Path
    t2ia: Path
    iqa: Path

    def environment(self) -> dict[str, str]:
        names = {"T2IA": self.t2ia, "IQA": self.iqa}
        return {f"DYNEVALINSTRUCT_{name}_ANNOTATION": str(path) for name, path in names.items()} | {
            f"DYNEVALINSTRUCT_{name}_DATA": str(self.root) for name in names
        }


def sample(human: str, answer: object, image: str | None = None, name: str | None = None) -> dict:
    turns = [{"from": "human", "value": human}, {"from": "gpt", "value": json.dumps(answer)}]
    return {"id": name or "s", **({"image": image} if image else {}), "conversations": turns}


def make_instruct_data(root: Path, pairs: int = 8) -> InstructData:
    """Samples of `pairs` images; in Stage 1 samples with and without image take turns. The first three are held out."""
    (root / "images").mkdir(parents=True)
    t2ia, iqa = [], []
    for number in range(pairs):
        colour = ("red", "green", "blue", "white")[number % 4]
        image = f"images/{number}.png"
        Image.new("RGB", (96 + 32 * (number % 3), 128), colour).save(root / image)
        prompt, question = f"a {colour} square, number {number}", f"Is the square {colour}?"
        verdict = {"answers": [{"question": question, "score": 5, "reasoning": f"It is {colour}."}]}
        evaluation = sample(evaluation_turn(prompt, [question]), verdict, image, f"{number}-evaluation")
        t2ia += [
            evaluation,
            sample(t2ia_turn(prompt), [{"question": question, "answer": "yes"}], None, f"{number}-t2ia"),
        ]
        graph = {"scene_graph": {"nodes": [], "edges": []}, "questions": [{"question": "Sharp?", "answer": "yes"}]}
        iqa += [evaluation, sample(iqa_turn(), graph, image, f"{number}-iqa")]
    data = InstructData(root, root / "t2ia.json", root / "iqa.jsonl")
    data.t2ia.write_text(json.dumps(t2ia))
    data.iqa.write_text("".join(json.dumps(one) + "\n" for one in iqa))
    data.t2ia.with_stem("t2ia_heldout").write_text(json.dumps(t2ia[:3]))
    data.iqa.with_stem("iqa_heldout").write_text("".join(json.dumps(one) + "\n" for one in iqa[:3]))
    return data


@pytest.fixture
def instruct_data(tmp_path: Path) -> InstructData:
    return make_instruct_data(tmp_path / "data")
