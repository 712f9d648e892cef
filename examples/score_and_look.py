"""Score an image and look at what the score rests on.

python examples/score_and_look.py
python examples/score_and_look.py photo.jpg "a photo of a carrot" dyneval-2b
"""

import sys
from pathlib import Path

from dyneval import Scorer

CUBES = Path(__file__).parents[1] / "assets" / "cubes.png"


def main(
    image: str = str(CUBES),
    prompt: str = "Four purple cubes. In the desert at sunset. Beautiful, depth of field.",
    checkpoint: str = "demo",
) -> None:
    """Print the scores of one image, and its questions with their soft scores, the worst first."""
    scorer = Scorer.from_pretrained(checkpoint)
    (result,) = scorer.score([image], [prompt])
    print(f"{image}\n{prompt}\n")
    for name, score in result.scores.items():
        print(f"{name:8} {score:.2f}   soft {result.soft[name]:.2f}")
    for part, questions in (("alignment", result.t2ia_questions), ("quality", result.iqa_questions)):
        print(f"\n{part}")
        for one in sorted(questions, key=lambda one: one.soft_score):
            print(f"  {one.soft_score:.2f}  {one.question}  {one.reasoning}")
    print(f"\nseen: {', '.join(node.label for node in result.scene_graph.nodes)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
