"""Score files and metadata in the real record formats, made from a seed."""

from pathlib import Path

import numpy as np
from PIL import Image

from dyneval.evaluation import published
from dyneval.records import PairRecord, ScoreRecord, prompt_id
from tests.rows import write_jsonl

CATEGORIES = [name for names in published.dimensions().values() for name in names]


def question(text, score):
    answer = "yes" if score > 2 else "no"
    return {"question": text, "answer": answer, "score": score, "reasoning": f"It looks like {score} of 5."}


def score_record(pair_id, prompt, image, t2ia, iqa, evaluator="DynEval-4B"):
    """A valid score.jsonl row; `t2ia` and `iqa` are lists of question scores."""
    means = {"t2ia": float(np.mean(t2ia)), "iqa": float(np.mean(iqa))}
    means["overall"] = (means["t2ia"] + means["iqa"]) / 2
    graph = {
        "nodes": [
            {"id": "n1", "label": "lantern", "attributes": ["red", "paper"]},
            {"id": "n2", "label": "bench", "attributes": ["wooden"]},
            {"id": "n3", "label": "cat", "attributes": []},
        ],
        "edges": [
            {"source": "n1", "target": "n2", "relationship": "above"},
            {"source": "n3", "target": "n2", "relationship": "sits on"},
        ],
    }
    row = {
        "pair_id": pair_id,
        "prompt": prompt,
        "image": image,
        **means,
        "normalised": {name: (value - 1) / 4 for name, value in means.items()},
        "t2ia_questions": [question(f"Is part {n} of the prompt shown?", int(s)) for n, s in enumerate(t2ia)],
        "iqa_questions": [question(f"Is object {n} free of distortions?", int(s)) for n, s in enumerate(iqa)],
        "scene_graph": graph,
        "model": evaluator,
        "template": "readme",
    }
    return ScoreRecord.from_dict(row).to_dict()


def pair_record(model, tier, number, prompt, categories):
    row = {
        "file_name": f"{model}/{number:04d}.png",
        "pair_id": f"{prompt_id(prompt)}-{model}",
        "prompt_id": prompt_id(prompt),
        "prompt": prompt,
        "tier": tier,
        "categories": categories,
        "generation_model": model,
        "seed": number,
        "width": 64,
        "height": 64,
        "settings": {},
        "sha256": "0" * 64,
    }
    return PairRecord.from_dict(row).to_dict()


def draw(path: Path, seed):
    """A small picture, different for each seed."""
    generator = np.random.default_rng(seed)
    base = generator.integers(60, 220, (4, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(base).resize((96, 96), Image.Resampling.BICUBIC).save(path)


def make_scores(folder: Path, models, prompts=24, seed=0, images=False):
    """Write scores.jsonl and gendb/metadata.jsonl for `models` (name -> (tier, skill 0-1)); returns both paths."""
    generator = np.random.default_rng(seed)
    texts = [f"a red paper lantern above bench number {n}" for n in range(prompts)]
    categories = [sorted(set(generator.choice(CATEGORIES, 3))) for _ in texts]
    scores, pairs = [], []
    for model, (tier, skill) in models.items():
        for number, text in enumerate(texts):
            pair = pair_record(model, tier, number, text, [str(name) for name in categories[number]])
            drawn = np.clip(np.rint(generator.normal(1 + 4 * skill, 0.9, 9)), 1, 5)
            scores.append(score_record(pair["pair_id"], text, pair["file_name"], drawn[:4], drawn[4:]))
            pairs.append(pair)
            if images:
                draw(folder / "gendb" / pair["file_name"], len(pairs))
    return write_jsonl(folder / "scores.jsonl", scores), write_jsonl(folder / "gendb" / "metadata.jsonl", pairs)
