"""Makes the pictures of the documentation with the demo judge: a report, the server's page, where the judge goes wrong.

    $ .venv/bin/python pipeline/docs/screens.py [folder]    # assets/screens/ and docs/reading-scores.md, minutes

Needs Chromium. What was drawn and scored stays in the folder (output/screens), so that a second run is quick. Run it
again when the report or the server's page changes: nothing else notices that a picture in the documentation is old.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from html import escape
from io import BytesIO
from pathlib import Path
from shutil import which
from typing import Any

import floors
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from dyneval.cli import main as dyneval
from dyneval.demo.prompts import demo_prompts
from dyneval.demo.truth import Truth, truth_path
from dyneval.demo.weights import write_judge
from dyneval.files.jsonl import read_jsonl
from dyneval.records import PairRecord, ScoreRecord

ROOT = Path(__file__).resolve().parents[2]
SCREENS = ROOT / "assets" / "screens"
CUBES = "Four purple cubes. In the desert at sunset. Beautiful, depth of field."
SEED, PROMPTS = 4, 4
"""Seed of the demo's prompts, and how many of them: those that the demo judge was trained on have other seeds."""
WRONG = 4
"""Pictures that are shown as failures."""


def main(folder: Path) -> None:
    """Draw, score and rank pictures, serve the judge, and take screenshots of the report and of the server's page.

    Args:
        folder: keeps what was drawn and scored.
    """
    gendb, scores, board, judge = Path("gendb"), Path("scores.jsonl"), Path("board"), Path("demo-judge")
    SCREENS.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # pages name the judge by its path: one that says nothing of this machine
    if not judge.is_dir():
        write_judge(judge)
    Path("prompts.txt").write_text("\n".join(demo_prompts(PROMPTS, SEED)) + "\n")
    models = [word for slug in ("demo-painter", "demo-sketcher", "demo-doodler") for word in ("--model", slug)]
    drawn = ["--prompts", "prompts.txt", "--any-tier", "--allocation", "all"]
    run("generate", *models, *drawn, "--output", gendb)
    run("score", "--metadata", gendb / "metadata.jsonl", "--output", scores, "--checkpoint", judge)
    run("leaderboard", scores, "--metadata", gendb / "metadata.jsonl", "--images", gendb, "--output", board)
    failures(gendb, scores)
    with sync_playwright() as player:
        chromium = player.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = opened(chromium, scheme, (board / "report.html").resolve().as_uri())
            page.wait_for_timeout(2000)  # charts are drawn, thumbnails loaded
            save(page.screenshot(), f"report-{scheme}")
        serve(chromium)
        chromium.close()


def serve(chromium: Browser) -> None:
    """Let the server's page score one picture, in both colour schemes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dyneval", "serve", "--checkpoint", "demo-judge", "--port", str(port)]
    with subprocess.Popen(command) as server:
        try:
            for _ in range(360):  # three minutes: the judge has to load
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            else:
                raise RuntimeError(f"the server on port {port} does not answer")
            for scheme in ("light", "dark"):
                page = opened(chromium, scheme, f"http://127.0.0.1:{port}/")
                page.set_input_files("#image", ROOT / "assets" / "cubes.png")
                page.fill("#prompt", CUBES)
                page.click("#submit")
                page.locator("#verdict[data-state=done]").wait_for(timeout=400_000)
                save(page.screenshot(), f"serve-{scheme}")
        finally:
            server.terminate()


def failures(gendb: Path, scores: Path) -> None:
    """Write the pictures whose soft overall score is farthest from the truth into the page that discusses them."""
    pairs = {row["pair_id"]: PairRecord.from_dict(row) for row in read_jsonl(gendb / "metadata.jsonl")}
    found = []
    for row in read_jsonl(scores):
        record, pair = ScoreRecord.from_dict(row), pairs[row["pair_id"]]
        truth = Truth.load(truth_path(gendb / pair.file_name))
        true = (truth.truth_t2ia + truth.truth_iqa) / 2
        found.append((abs(record.soft["overall"] - true), true, record, pair, truth))
    found.sort(key=lambda one: -one[0])
    rows = ["| picture | prompt | truth: T2IA, IQA | judge, soft: T2IA, IQA |", "|---|---|---|---|"]
    for number, (_, _, record, pair, truth) in enumerate(found[:WRONG], 1):
        with Image.open(gendb / pair.file_name) as image:
            image.resize((128, 128)).save(SCREENS / f"wrong-{number}.webp", quality=80)
        picture = f"![A picture by {pair.generation_model}](../assets/screens/wrong-{number}.webp)"
        rows.append(
            f"| {picture} | {escape(pair.prompt, quote=False)} "
            f"| {truth.truth_t2ia:.2f}, {truth.truth_iqa:.2f} | {record.soft['t2ia']:.2f}, {record.soft['iqa']:.2f} |"
        )
    far = sum(one[0] for one in found) / len(found)
    rows.append(
        f"\nThe {WRONG} worst of {len(found)} pictures; over all of them the mean difference is {far:.2f} points."
    )
    floors.write(ROOT / "docs" / "reading-scores.md", "failures", "\n".join(rows))


def opened(chromium: Browser, scheme: str, address: str) -> Any:
    """Open an address in a page of 1100 by 800 pixels, in the colour scheme "light" or "dark"."""
    page = chromium.new_page(viewport={"width": 1100, "height": 800}, color_scheme=scheme)
    page.goto(address)
    return page


def save(png: bytes, name: str) -> None:
    """Keep a screenshot small: WebP of 30-60 KB."""
    Image.open(BytesIO(png)).convert("RGB").save(SCREENS / f"{name}.webp", quality=70, method=6)


def run(*words: object) -> None:
    """Run a verb of `dyneval`; exit with its status where it fails."""
    if status := dyneval([str(word) for word in words]):
        sys.exit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "output" / "screens")
