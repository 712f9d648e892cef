"""Paths that are addresses of the Hub, with a server of this machine in its place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard
from PIL import Image

from dyneval.files.jsonl import read_jsonl
from tests import processes

SERVER = Path(__file__).parents[1] / "qwenvl" / "hub_server.py"
SMALL = ["--max-questions", "2", "--max-text", "8", "--device", "cpu", "--mode", "fast"]


@pytest.fixture
def dyneval(tmp_path):
    """dyneval(*words) runs a verb; the Hub has the data set me/cats, an ImageFolder of two pairs."""
    place = tmp_path / "hub" / "me" / "cats" / "main"
    place.mkdir(parents=True)
    rows = [{"file_name": f"{name}.png", "prompt": f"a {name} cat"} for name in ("red", "blue")]
    (place / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for name in ("red", "blue"):
        Image.new("RGB", (40, 40), name).save(place / f"{name}.png")
    process = processes.Process(
        [sys.executable, SERVER, tmp_path / "hub", "a-token"], stdout=subprocess.PIPE, text=True
    )
    there = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    there |= {"HF_ENDPOINT": f"http://127.0.0.1:{int(process.stdout.readline())}", "HF_TOKEN": "a-token"}
    there |= {"HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}

    def run(*words, **more):
        command = [sys.executable, "-m", "dyneval", *map(str, words)]
        settings = there | more
        return processes.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)

    yield run
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_data_set_of_the_hub_is_scored_and_read_again_without_the_hub(dyneval, student, tmp_path):
    command = ["score", "hf://datasets/me/cats@main", "--output", "s.jsonl", "--checkpoint", student, *SMALL]
    done = dyneval(*command)
    assert done.returncode == 0, done.stderr
    assert "hf://datasets/me/cats@main: 3 files, 0.0 MB, are fetched from the Hub" in done.stderr
    assert sorted(row["prompt"] for row in read_jsonl(tmp_path / "s.jsonl")) == ["a blue cat", "a red cat"]
    said = json.loads((tmp_path / "s.summary.json").read_text())["run"]["config"]
    assert said["image"] == ["hf://datasets/me/cats@main"]
    again = dyneval(*command, HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and "fetched" not in again.stderr, again.stderr


def test_captions_of_the_hub_are_fetched_before_it_is_said_what_they_lack(dyneval, student, tmp_path):
    folder = tmp_path / "hub" / "me" / "cats" / "main"
    (folder / "captions.json").write_text(json.dumps({"red.png": "a tomato", "blue.png": "the sea"}))
    images = tmp_path / "images"
    images.mkdir()
    for name in ("red", "blue"):
        Image.new("RGB", (40, 40), name).save(images / f"{name}.png")
    # A map of captions needs no --output; a table does.
    command = ["score", images, "--checkpoint", student, *SMALL, "--captions"]
    done = dyneval(*command, "hf://datasets/me/cats/captions.json")
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(line)["prompt"] for line in done.stdout.splitlines()) == ["a tomato", "the sea"]
    table = dyneval(*command, "hf://datasets/me/cats/metadata.jsonl")
    assert table.returncode == 2 and "--captions with a table needs --output" in table.stderr
    none = dyneval(*command, "hf://datasets/me/cats/none.json")
    assert none.returncode == 2 and "none.json: there is no such file in the repository" in none.stderr


def test_a_table_of_image_models_of_the_hub_is_fetched_before_it_is_read(dyneval, tmp_path):
    folder = tmp_path / "hub" / "me" / "cats" / "main"
    (folder / "models.toml").write_text(
        '[mine]\nname = "My painter"\ntier = 2\nfamily = "demo"\nvariants = { 64 = "dyneval.demo" }\n'
        "[mine.presets.recommended]\narguments = { size = 64 }\n"
    )
    models = ["--models", "hf://datasets/me/cats/models.toml"]
    listed = dyneval("generate", *models, "--list")
    assert listed.returncode == 0 and "\nmine " in listed.stdout, listed.stderr
    assert listed.stderr.rpartition("cats/")[2] == "models.toml: 1 files, 0.0 MB, are fetched from the Hub\n"
    drawn = dyneval("generate", *models, "--model", "minee", "--prompts", "p.txt", "--output", "gendb")
    assert drawn.returncode == 2 and "mine" in drawn.stderr
    none = dyneval("generate", "--models", "hf://datasets/me/cats/none.toml", "--list")
    assert none.returncode == 2 and "none.toml: there is no such file in the repository" in none.stderr


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://datasets/me/cats/none.jsonl", "there is no such file in the repository"),
        ("hf://datasets/me/cats@v2", "cannot be fetched (RevisionNotFoundError: "),
        ("hf://cats", "expected hf://datasets/USER/NAME[@REVISION][/PATH]"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(dyneval, address, said):
    done = dyneval("score", "--metadata", address, "--output", "s.jsonl")
    assert done.returncode == 1 and done.stderr.startswith(f"dyneval score: {address}: ") and said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--output", "overall --metadata a --annotations b --output hf://datasets/me/cats/s.csv"),
        ("--output", "merge hf://datasets/me/cats/metadata.jsonl"),
        ("--ratings", "serve --rate a --ratings hf://datasets/me/cats/metadata.jsonl"),
        ("--images", "gendb from-mapping a hf://datasets/me/cats"),
        ("--images", "published import --annotations-file a --images hf://datasets/me/cats --output b"),
    ],
)
def test_nothing_is_written_to_an_address(dyneval, tmp_path, flag, words):
    done = dyneval(*words.split())
    assert done.returncode in (1, 2) and f"{flag}: is written to this machine" in done.stderr
    assert not (tmp_path / "home").exists()  # where fetched files would be


def test_results_stand_in_the_card_of_the_model_and_beside_it(dyneval, tmp_path):
    model = tmp_path / "hub" / "me" / "student" / "main"
    model.mkdir(parents=True)
    (model / "README.md").write_text("---\nlicense: mit\n---\n# A student\n")
    rated = "".join(f"{number}.png,{1 + number % 5},prompt {number}\n" for number in range(8))
    (tmp_path / "rated.csv").write_text(f"image,rating,prompt\n{rated}")
    (tmp_path / "judge.csv").write_text("image,score\n" + "".join(f"{n}.png,{1 + n % 5 + n / 9}\n" for n in range(8)))
    command = ["benchmark", "--benchmark", "generic", "--annotations", "rated.csv", "--scores", "judge.csv"]
    command += ["--score", "score", "--no-report", "--output", "out", "--push-to-hub", "me/student"]
    for _ in range(2):  # the second time in the place of the first
        done = dyneval(*command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].endswith("/me/student")
    card = ModelCard((model / "README.md").read_text())
    assert card.data.license == "mit" and "# A student" in card.text
    found = {one.metric_type: one.metric_value for one in card.data.eval_results}
    reached = json.loads((tmp_path / "out" / "agreement.json").read_text())["evaluators"][0]
    assert found["spearmanr"] == round(reached["srcc"]["value"], 4)
    assert set(found) >= {"pearsonr", "kendalltau", "accuracy"}
    sent = {path.name for path in (model / "results" / "generic").iterdir()}
    assert "agreement.csv" in sent and not [name for name in sent if "rejects" in name or name.endswith(".json")]


def test_a_board_is_a_data_set_with_a_card(dyneval, tmp_path):
    (tmp_path / "published.csv").write_text("model,tier,t2ia,iqa,overall\nA,1,0.9,0.8,0.85\nB,2,0.7,0.6,0.65\n")
    board = tmp_path / "hub" / "me" / "board" / "main"
    for folder in (tmp_path / "board", board):
        (folder / "mine").mkdir(parents=True)
        (folder / "mine" / "notes.csv").write_text(folder.name)
    done = dyneval("leaderboard", "published.csv", "--output", "board", "--no-report", "--push_to_hub", "me/board")
    assert done.returncode == 0, done.stderr
    assert (board / "mine" / "notes.csv").read_text() == "main"  # what was not made here is not sent, nor deleted there
    assert DatasetCard((board / "README.md").read_text()).data.tags == ["dyneval", "leaderboard"]
    assert "| A " in (board / "README.md").read_text() and list(board.glob("*.csv"))
