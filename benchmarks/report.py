"""Size of a report and time to its first paint in Chromium, beside a page that carries all its images itself.

    python benchmarks/report.py --models 36 --prompts 1000 --carried 50

Scores and images are made up; 23 questions an image. The baseline has only `--carried` prompts, since it grows too
large. Needs chromium.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import Flags, Results, timed
from PIL import Image
from playwright.sync_api import sync_playwright

from dyneval.evaluation import published
from dyneval.evaluation.report import gallery
from dyneval.evaluation.run_leaderboard import LeaderboardRun, run_leaderboard

PROMPT = "a red paper lantern above a wooden bench on a foggy pier, oil painting"
SCENE = {
    "nodes": [{"id": f"n{n}", "label": f"object {n}", "attributes": ["red"]} for n in range(5)],
    "edges": [{"source": "n0", "target": "n1", "relationship": "above"}],
}
# As long as a usual sentence of a student: it decides the size of the page.
REASON = "The main subject is present and recognisable, but one attribute named in the prompt is only partly shown."


def main() -> None:
    """Make and open a report of each kind and size."""
    flags = Flags(__doc__)
    flags.add_argument("--models", type=int, default=36, smoke=2)
    flags.add_argument("--prompts", type=int, default=1000, smoke=3)
    flags.add_argument("--carried", type=int, default=50, smoke=2)
    flags.add_argument("--workers", type=int, default=2)
    arguments = flags.parse_args()
    results = Results(arguments)
    columns = {"report": "", "images": "", "made s": ".0f", "page MB": ".1f", "beside it MB": ".0f"}
    results.table(columns | {"first paint ms": ".0f", "gallery ready ms": ".0f"})
    for name, prompts, inline in (
        ("carries all", arguments.carried, 1 << 30),
        ("folder beside it", arguments.carried, gallery.INLINE),
        ("folder beside it", arguments.prompts, gallery.INLINE),
    ):
        # The page carries its images itself up to this many bytes.
        gallery.INLINE = inline
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            output = folder / "board"
            make(folder, arguments.models, prompts)
            board = LeaderboardRun(
                scores=[folder / "scores.jsonl"],
                images=folder,
                model_from="folder",
                output=output,
                workers=arguments.workers,
            )
            with timed() as made:
                run_leaderboard(board)
            files = [path for path in (output / "report_files").rglob("*") if path.is_file()]
            sizes = [
                size / 1e6
                for size in ((output / "report.html").stat().st_size, sum(path.stat().st_size for path in files))
            ]
            results.row(name, arguments.models * prompts, made.wall, *sizes, *look(output / "report.html"))


def make(folder: Path, models: int, prompts: int) -> None:
    """Write scores.jsonl and one image a score."""
    generator = np.random.default_rng(0)
    with (folder / "scores.jsonl").open("w") as file:
        for model in published.models()[:models]:
            (folder / model.slug).mkdir()
            for number in range(prompts):
                image = f"{model.slug}/{number:04d}.jpg"
                pixels = generator.integers(60, 220, (3, 3, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC).save(folder / image, quality=70)
                drawn = np.clip(np.rint(generator.normal(1 + 4 * (model.paper_score or 0.5), 0.9, 23)), 1, 5)
                asked = {"question": "Is this part shown as it was asked for?", "answer": "yes", "reasoning": REASON}
                scored = [asked | {"score": int(score)} for score in drawn]
                t2ia, iqa = float(drawn[:9].mean()), float(drawn[9:].mean())
                scores = {"t2ia": t2ia, "iqa": iqa, "overall": (t2ia + iqa) / 2}
                row = {
                    "pair_id": f"{number:04d}-{model.slug}",
                    "prompt": f"prompt {number}: {PROMPT}",
                    "image": image,
                    **scores,
                    "normalised": {name: (score - 1) / 4 for name, score in scores.items()},
                    "t2ia_questions": scored[:9],
                    "iqa_questions": scored[9:],
                    "scene_graph": SCENE,
                    "model": "DynEval-4B",
                    "template": "readme",
                }
                file.write(json.dumps(row) + "\n")


def look(page: Path) -> tuple[float, float]:
    """Return milliseconds to the first paint, and until the gallery shows its count."""
    # Containers have no user namespaces for Chromium's sandbox, and often no GPU.
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        started = time.perf_counter()
        window.goto(page.as_uri(), wait_until="commit")
        window.wait_for_function("document.getElementById('shown')?.textContent")
        ready = (time.perf_counter() - started) * 1000
        window.wait_for_load_state()
        paint = window.evaluate("performance.getEntriesByName('first-paint')[0].startTime")
        browser.close()
    return paint, ready


if __name__ == "__main__":
    main()
