"""Compare two image models on the same prompts: draw, score, rank, and let a CI job fail where one is worse.

    python examples/compare_models.py comparison/

Every step is a verb of the command line, called here with the same words.
"""

import json
import sys
from pathlib import Path

from dyneval.cli import main as dyneval
from dyneval.demo.prompts import demo_prompts

GOOD, BAD = "demo-painter", "demo-doodler"
SOFT = ("--score", "soft.overall")  # few questions: the whole scores of the demo judge tie


def main(folder: str = "comparison", prompts: int = 4) -> int:
    """Write boards and checks into `folder`; returns the status of the check, 1 where the second model is worse."""
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    (root / "prompts.txt").write_text("\n".join(demo_prompts(int(prompts), seed=1)) + "\n")
    drawn = ["--prompts", root / "prompts.txt", "--any-tier", "--allocation", "all"]
    run("generate", "--model", GOOD, "--model", BAD, *drawn, "--output", root / "gendb")
    pairs = ["--metadata", root / "gendb" / "metadata.jsonl"]
    run("score", *pairs, "--output", root / "scores.jsonl", "--checkpoint", "demo", "--mode", "fast")
    run("leaderboard", root / "scores.jsonl", *pairs, "--images", root / "gendb", "--output", root / "board")
    lines = (root / "scores.jsonl").read_text().splitlines(keepends=True)
    for model in (GOOD, BAD):  # as if one were a model's last release and the other its new one
        own = [line for line in lines if json.loads(line)["pair_id"].endswith(f"-{model}")]
        (root / f"{model}.jsonl").write_text("".join(own))
    return dyneval(["check", str(root / f"{BAD}.jsonl"), "--baseline", str(root / f"{GOOD}.jsonl"), *SOFT])


def run(*words: object) -> None:
    """Run a verb; stop where it fails."""
    if status := dyneval([str(word) for word in words]):
        sys.exit(status)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
