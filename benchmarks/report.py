"""Size of a report and time to its first paint in Chromium, beside a page that carries all its images itself.

    python benchmarks/report.py --models 36 --prompts 1000 --carried 50

Scores and images are made up; 23 questions an image. The baseline has only `--carried` prompts, since it grows too
large. Needs chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from dyneval.evaluation import published
from dyneval.evaluation.report import gallery
from dyneval.evaluation.run_leaderboard import LeaderboardRun, run_leaderboard

REASON = "The main subject is present and recognisable, but one attribute named in the prompt is only partly shown."


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=36)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--carried", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    print("| report | images | made s | page MB | beside it MB | first paint ms | gallery ready ms |")
    print("|---|---|---|---|---|---|---|")
    for name, prompts, inline in (
        ("carries all", arguments.carried, 1 << 30),
        ("folder beside it", arguments.carried, gallery.INLINE),
        ("folder beside it", arguments.prompts, gallery.INLINE),
    ):
        gallery.INLINE = inline
        with tempfile.TemporaryDirectory() as folder:
            print(row(name, Path(folder), arguments.models, prompts, arguments.workers), flush=True)


def row(name: str, folder: Path, models: int, prompts: int, workers: int) -> str:
    """Make and open one report."""
    make(folder, models, prompts)
    started = time.perf_counter()
    output = folder / "board"
    run_leaderboard(
        LeaderboardRun(
            scores=[folder / "scores.jsonl"], images=folder, model_from="folder", output=output, workers=workers
        )
    )
    made = time.perf_counter() - started
    beside = sum(path.stat().st_size for path in (output / "report_files").rglob("*") if path.is_file())
    page = (output / "report.html").stat().st_size
    paint, ready = look(output / "report.html")
    sizes = f"{page / 1e6:.1f} | {beside / 1e6:.0f}"
    return f"| {name} | {models * prompts} | {made:.0f} | {sizes} | {paint:.0f} | {ready:.0f} |"


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
                drawn = np.clip(np.rint(generator.normal(1 + 4 * model.normalised, 0.9, 23)), 1, 5)
                file.write(json.dumps(record(f"{number:04d}-{model.slug}", image, number, drawn)) + "\n")


def record(pair_id: str, image: str, number: int, drawn: np.ndarray) -> dict:
    """One row of scores.jsonl."""
    questions = [
        {
            "question": f"Is part {n} shown as it was asked for?",
            "answer": "yes",
            "score": int(score),
            "reasoning": REASON,
        }
        for n, score in enumerate(drawn)
    ]
    t2ia, iqa = float(drawn[:9].mean()), float(drawn[9:].mean())
    scores = {"t2ia": t2ia, "iqa": iqa, "overall": (t2ia + iqa) / 2}
    nodes = [{"id": f"n{n}", "label": f"object {n}", "attributes": ["red"]} for n in range(5)]
    return {
        "pair_id": pair_id,
        "prompt": f"prompt {number}: a red paper lantern above a wooden bench on a foggy pier, oil painting",
        "image": image,
        **scores,
        "normalised": {name: (score - 1) / 4 for name, score in scores.items()},
        "t2ia_questions": questions[:9],
        "iqa_questions": questions[9:],
        "scene_graph": {"nodes": nodes, "edges": [{"source": "n0", "target": "n1", "relationship": "above"}]},
        "model": "DynEval-4B",
        "template": "readme",
    }


def look(page: Path) -> tuple[float, float]:
    """Return milliseconds to the first paint, and until the gallery shows its count."""
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
