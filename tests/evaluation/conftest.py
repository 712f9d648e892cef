"""Boards and reports of this room, made once, and a window of a real Chromium to look at them with."""

import json

import pytest

from dyneval.evaluation.run_leaderboard import LeaderboardRun, run_leaderboard
from dyneval.files.jsonl import read_jsonl
from tests.rows import write_jsonl

from .scored_data import make_scores

MODELS = {"flux2-dev": (1, 0.9), "gpt-image-1-5": (1, 0.93), "sana": (2, 0.6), "sd1-5": (3, 0.3)}
HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">'


@pytest.fixture(scope="session")
def large_report(tmp_path_factory):
    """A report of 220 images with ratings, one of them broken and one hostile; images and details lie beside it."""
    folder = tmp_path_factory.mktemp("large")
    scores, metadata = make_scores(folder, MODELS, prompts=55, images=True)
    rows = list(read_jsonl(scores))
    rows[7]["t2ia_questions"][0] |= {"question": HOSTILE, "reasoning": HOSTILE}
    rows[7]["scene_graph"]["nodes"][0]["label"] = HOSTILE
    write_jsonl(scores, rows)
    pairs = list(read_jsonl(metadata))
    (folder / "gendb" / pairs[3]["file_name"]).write_bytes(b"no image")
    ratings = [
        {"pair_id": row["pair_id"], "rating": 6 - row["overall"] if n % 9 == 0 else row["overall"]}
        for n, row in enumerate(rows)
    ]
    write_jsonl(folder / "ratings.jsonl", ratings[:200])
    run_leaderboard(
        LeaderboardRun(
            scores=[scores],
            metadata=[metadata],
            images=folder / "gendb",
            ratings=folder / "ratings.jsonl",
            output=folder / "board",
            resamples=50,
            title=f"Four models {HOSTILE}",
            workers=2,
        )
    )
    return folder


@pytest.fixture
def visit(chromium):
    """Open a file in a new window; in the end nothing may have gone wrong there, nor been asked of a network."""
    faults, contexts = [], []

    def open_page(path, width=1280, theme="light"):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else faults.append(request.url),
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def page_data(path):
    """The data that a report carries."""
    text = path.read_text("utf-8")
    start = text.index('id="data">') + len('id="data">')
    return json.loads(text[start : text.index("</script>", start)])
