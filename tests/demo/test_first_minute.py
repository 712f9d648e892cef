"""`dyneval demo`: the finished judge scores scenes beside the truth, and everything says that it is a demo's."""

from dyneval.evaluation.correlation import spearman
from dyneval.files.jsonl import read_jsonl
from tests.processes import dyneval


def test_a_judge_that_judges_in_a_minute(tmp_path):
    done = dyneval("demo", "--prompts", "8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "| demo-" in line]
    assert len(rows) == 24
    numbers = [[float(part) for part in row.split("|")[3].replace("(", " ").replace(")", " ").split()] for row in rows]
    said, true = zip(*numbers, strict=True)
    assert spearman(said, true) > 0.6
    assert len(set(said)) > 10
    page = tmp_path / "dyneval-demo" / "demo.html"
    assert "dyneval serve --checkpoint dyneval-demo/judge" in done.stdout and "photographs" in done.stdout
    assert page.read_text().count("<circle") == 24 and "default-src 'none'" in page.read_text()

    # The judge is an ordinary student: it is kept, scores files, and `doctor` says what it is.
    kept = (tmp_path / "dyneval-demo" / "judge" / "model.safetensors").stat().st_mtime_ns
    assert dyneval("demo", "--prompts", "1", cwd=tmp_path).returncode == 0
    assert (tmp_path / "dyneval-demo" / "judge" / "model.safetensors").stat().st_mtime_ns == kept
    image = next((tmp_path / "dyneval-demo" / "images").glob("*.png"))
    arguments = ["--checkpoint", "dyneval-demo/judge", "--prompt", "a red cat", "--output", "scores.jsonl"]
    assert dyneval("score", str(image), *arguments, cwd=tmp_path).returncode == 0
    (score,) = read_jsonl(tmp_path / "scores.jsonl")
    assert 1 <= score["overall"] <= 5
    looked = dyneval("doctor", "--checkpoint", "dyneval-demo/judge", cwd=tmp_path)
    assert "note  demo         a demo judge" in looked.stdout


def test_wrong_numbers_are_refused(tmp_path):
    wrong = dyneval("demo", "--prompts", "0", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "--prompts: expected a whole number of 1 or more, at most 100, found '0'" in wrong.stderr
    assert not list(tmp_path.iterdir())
