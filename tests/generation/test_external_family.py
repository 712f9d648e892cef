"""External models through a real worker process in an environment of its own; the seven adapters with stand-ins."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from dyneval.cli.generate import main
from dyneval.files import images
from dyneval.generation import catalogue
from dyneval.generation.families import external
from dyneval.generation.model import BuildOptions, RunOptions
from dyneval.generation.runner import Config, generate

from .tried import check_row

TABLE = """
[authors-model]
family = "external"
name = "Authors' model"
tier = 2
variants = { v1 = "their/weights" }
adapter = "stand_in_adapter.py"
code = "https://example.org/code"
presets.recommended.arguments = { size = 32 }
"""
SPECS = catalogue.load()
EXTERNAL = [spec for spec in SPECS.values() if spec.family == "external"]
SITE = Path(next(path for path in sys.path if path.endswith("site-packages")))


def packages(env):
    return next(env.glob("lib/python*")) / "site-packages"


@pytest.fixture(scope="module")
def envs(tmp_path_factory):
    """An environment with Pillow and with `transformers` and `diffusers` of its own, and the folder of the code."""
    folder = tmp_path_factory.mktemp("envs") / "authors-model"
    venv.create(folder, with_pip=False)
    for name in ("PIL", "pillow.libs"):
        if (SITE / name).exists():
            (packages(folder) / name).symlink_to(SITE / name)
    for name in ("transformers", "diffusers"):
        (packages(folder) / f"{name}.py").write_text("from_the_environment = True\n")
    (folder / "code").mkdir()
    return folder.parent


@pytest.fixture(scope="module")
def faked(tmp_path_factory):
    """An environment where every library but Pillow is a stand-in."""
    folder = tmp_path_factory.mktemp("faked")
    venv.create(folder, with_pip=False)
    for name in ("PIL", "pillow.libs"):
        if (SITE / name).exists():
            (packages(folder) / name).symlink_to(SITE / name)
    shutil.copy(Path(__file__).with_name("fakes.py"), packages(folder))
    (packages(folder) / "fakes.pth").write_text("import fakes\n")
    (folder / "code" / "UniPic-1").mkdir(parents=True)
    return folder


def run(folder, envs, texts, table=TABLE, **build):
    shutil.copy(Path(__file__).with_name("stand_in_adapter.py"), folder)
    (folder / "mine.toml").write_text(table)
    model = catalogue.load(folder / "mine.toml")["authors-model"]
    return draw(model, folder, envs, texts, **build)


def draw(model, folder, envs, texts, **build):
    rows = [
        {"prompt_id": f"P{n}", "prompt": text, "tier": model.tier, "categories": []} for n, text in enumerate(texts)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = Config(
        prompts=folder / "prompts.jsonl",
        output=folder / "gendb",
        devices=("cpu",),
        run=RunOptions(external_env=envs),
        build=BuildOptions(**build),
    )
    return generate([model], [model], config)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_images_come_out_of_the_worker_with_what_it_knows(envs, tmp_path):
    summary = run(tmp_path, envs, [f"cat {n}" for n in range(20)])
    assert (summary.total("made"), summary.exit_status) == (20, 0)
    for row in rows(tmp_path / "gendb" / "metadata.jsonl"):
        assert row["settings"]["prompt_sent"] == f"draw: {row['prompt']}"
        assert row["settings"]["weights"] == {str(envs / "authors-model" / "code"): "local"}
        assert row["settings"]["versions"]["python"]
        image = images.load_image(tmp_path / "gendb" / row["file_name"])
        assert image.getpixel((0, 0))[1] == row["seed"] % 256
    colours = [path.read_bytes() for path in sorted((tmp_path / "gendb").rglob("*.png"))]
    again = tmp_path / "again"
    again.mkdir()
    run(again, envs, [f"cat {n}" for n in range(20)])
    assert [path.read_bytes() for path in sorted((again / "gendb").rglob("*.png"))] == colours


SECRETS = {
    **dict.fromkeys(("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "GITLAB_PAT", "DB_PASSWD"), "a-secret"),
    **dict.fromkeys(("GPG_PASSPHRASE", "MYSQL_PWD", "SSHPASS", "SMTP_AUTH", "STORAGE_CONNECTION_STRING"), "a-secret"),
    "DATABASE_URL": "postgres://db/a-secret",
    "BROKER": "amqp://me:a-secret@queue/",
    "DEPLOY": "-----BEGIN OPENSSH PRIVATE a-secret",
}
PLAIN = {"HF_HOME": "/cache", "TOKENIZERS_PARALLELISM": "false", "GIT_AUTHOR_NAME": "me", "PIP_NO_INDEX": "1"}


@pytest.mark.parametrize("gated", [False, True])
def test_the_worker_sees_its_environment_and_none_of_our_keys(gated, envs, tmp_path, monkeypatch):
    """Its own folder holds modules called like the libraries, which Python would import first."""
    for name, value in {**SECRETS, **PLAIN, "HF_TOKEN": "a-secret"}.items():
        monkeypatch.setenv(name, value)
    table = TABLE + f"gated = {str(gated).lower()}\n"
    assert run(tmp_path, envs, ["what do you see"], table).exit_status == 0
    (row,) = rows(tmp_path / "gendb" / "metadata.jsonl")
    seen = json.loads((envs / "authors-model" / "code" / "seen.json").read_text())
    assert all(Path(path).parent == packages(envs / "authors-model") for path in seen["libraries"])
    assert seen["secrets"] == (["HF_TOKEN"] if gated else [])
    assert set(PLAIN) <= set(seen["names"])
    assert row["settings"]["versions"]["python"]


@pytest.mark.parametrize("checkout", ["none", "clean", "changed"])
def test_the_commit_of_the_code_is_that_of_its_own_checkout(checkout, envs, tmp_path, monkeypatch):
    """A folder that is no checkout, inside another project, has no commit."""
    code = envs / "authors-model" / "code"
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "a@b.c")

    def git(*words, where=code):
        return subprocess.run(["git", "-C", where, *words], check=True, capture_output=True, text=True).stdout.strip()

    where = code.parent if checkout == "none" else code
    (code / "model.py").write_text("1\n")
    git("init", "--quiet", where=where)
    git("add", "code" if checkout == "none" else "model.py", where=where)
    git("commit", "--quiet", "-m", "one", where=where)
    if checkout == "changed":
        (code / "model.py").write_text("2\n")
    run(tmp_path, envs, ["a cat"])
    head = git("rev-parse", "HEAD", where=where)
    (row,) = rows(tmp_path / "gendb" / "metadata.jsonl")
    expected = {"none": None, "clean": head, "changed": f"{head}-dirty"}[checkout]
    shutil.rmtree(where / ".git")
    assert row["settings"]["code_commit"] == expected


def test_a_folder_of_weights_may_be_relative(envs, tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path, envs, ["a cat"], repo="weights").exit_status == 0
    (row,) = rows(tmp_path / "gendb" / "metadata.jsonl")
    assert row["settings"]["revision"] == "local"


HUB = """
import json
from pathlib import Path

def snapshot_download(repo, **asked):
    folder = Path(__file__).with_name("hub") / (asked["revision"] or "d" * 40)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "asked.jsonl").open("a") as file:
        file.write(json.dumps([repo, asked]) + "\\n")
    return str(folder)
"""


def test_of_a_repo_only_what_is_read_is_fetched_and_at_the_commit_of_the_first_images(envs, tmp_path):
    site = packages(envs / "authors-model")
    (site / "huggingface_hub.py").write_text(HUB)
    for count in (1, 2):
        assert run(tmp_path, envs, [f"cat {n}" for n in range(count)], repo="their/other").exit_status == 0
    patterns = {"allow_patterns": ["*.json", "*.safetensors"], "ignore_patterns": ["all_in_one.safetensors"]}
    assert rows(site / "hub" / "asked.jsonl") == [
        ["their/other", {"revision": None, **patterns}],
        ["their/other", {"revision": "d" * 40, **patterns}],
    ]
    for row in rows(tmp_path / "gendb" / "metadata.jsonl"):
        assert row["settings"]["revision"] == "d" * 40


def test_a_prompt_that_kills_the_worker_costs_one_image(envs, tmp_path):
    summary = run(tmp_path, envs, ["a cat", "boom", "die now", "a dog", "a fox"])
    assert (summary.total("made"), summary.total("missing")) == (3, 2)
    reasons = {row["pair_id"]: row["reason"] for row in rows(tmp_path / "gendb" / "metadata.rejects.jsonl")}
    assert reasons["P1-authors-model"] == "RuntimeError: boom"
    assert "the worker died (exit status 7)" in reasons["P2-authors-model"]


def test_a_silent_worker_is_ended(envs, tmp_path, monkeypatch):
    monkeypatch.setattr(external, "DRAW_TIMEOUT", 0.5)
    monkeypatch.setattr(external, "END_TIMEOUT", 0.2)
    summary = run(tmp_path, envs, ["a cat", "hang"])
    assert (summary.total("made"), summary.total("missing")) == (1, 1)
    (row,) = rows(tmp_path / "gendb" / "metadata.rejects.jsonl")
    assert "said nothing" in row["reason"]


def test_what_is_missing_is_said_before_anything_is_drawn(envs, tmp_path):
    summary = run(tmp_path, tmp_path / "nothing", ["a cat"])
    assert "no bin/python in" in summary.models[0].error
    assert f"dyneval generate --setup authors-model --external-env {tmp_path / 'nothing'}" in summary.models[0].error
    summary = run(tmp_path, envs, ["a cat"], repo="no/weights")
    assert "FileNotFoundError: weights are missing" in summary.models[0].error


@pytest.mark.parametrize("spec", EXTERNAL, ids=lambda spec: spec.slug)
def test_an_adapter_loads_and_draws_with_all_its_arguments(spec, faked, tmp_path):
    """Every library and all of the authors' code are stand-ins: what is tried is the adapter and the worker."""
    notes = packages(faked) / "fakes.jsonl"
    notes.unlink(missing_ok=True)
    for name in ("weights", *spec.parts):
        (tmp_path / name).mkdir()
    parts = {name: str(tmp_path / name) for name in spec.parts}
    summary = draw(spec, tmp_path, faked, ["A Cat", "a dog"], repo=str(tmp_path / "weights"), parts=parts)
    assert (summary.total("made"), summary.models[0].error) == (2, None)
    (row, _) = rows(tmp_path / "gendb" / "metadata.jsonl")
    assert row["settings"]["revision"] == "local"
    assert set(row["settings"]["weights"]) == {str(tmp_path / "weights"), *parts.values()}
    calls = rows(notes)
    passed = {name for call in calls for name in call["with"]}
    consumed = {"image_size", "checkpoint", "config", "height", "width"}
    assert set(spec.arguments(BuildOptions())) - consumed <= passed
    wanted = spec.arguments(BuildOptions())
    side = [wanted.get(name, wanted.get("image_size")) for name in ("width", "height")]
    assert row["settings"].get("details", {}).get("asked_size", [None, None]) == side  # stand-ins draw 8x8
    if spec.slug == "llamagen":
        assert row["settings"]["prompt_sent"] == "a cat"  # as the authors' code reads it
    shown = f"adapter {spec.adapter} in a worker; code and libraries are stand-ins"
    check_row(spec.slug, spec, shown, "1 a call; all arguments passed")


def wheel(folder):
    """A package of one file, as pip installs it."""
    path = folder / "tiny_library-1.0-py3-none-any.whl"
    meta = {"METADATA": "Metadata-Version: 2.1\nName: tiny-library\nVersion: 1.0\n", "RECORD": ""}
    meta["WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny_library.py", "value = 7\n")
        for name, text in meta.items():
            file.writestr(f"tiny_library-1.0.dist-info/{name}", text)
    return path


def test_setup_makes_an_environment_at_the_commit_and_tells_the_licences(tmp_path, capsys, monkeypatch, caplog):
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "a@b.c")
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    wheel(tmp_path)
    code = tmp_path / "their-code"
    code.mkdir()
    (code / "requirements.txt").write_text("tiny-library==1.0\n")
    git = ["git", "-C", str(code)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "."], check=True)

    def committed(message):
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", message], check=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    commit = committed("one")
    committed("two")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    table = TABLE.replace("https://example.org/code", str(code)) + (
        f'licence = "Their own"\n[authors-model.setup]\npython = "{version}"\ncommit = "{commit}"\n'
        'requirements = ["requirements.txt"]\nbasics = []\n'
    )
    own = tmp_path / "mine.toml"
    own.write_text(table)
    flags = ["--models", str(own), "--external-env", str(tmp_path / "envs")]
    assert main([*flags, "--list"]) == 0
    assert "dyneval generate --setup authors-model --external-env" in capsys.readouterr().out
    caplog.set_level("INFO")
    env = tmp_path / "envs" / "authors-model"
    (env / "code.part").mkdir(parents=True)  # of a run that was killed
    assert main([*flags, "--setup", "authors-model"]) == 0
    for path in packages(env).glob("pip*"):  # killed before pip was there
        shutil.rmtree(path)
    table = table.replace(commit, commit := committed("three"))  # the clone is older
    own.write_text(table)
    assert main([*flags, "--setup", "authors-model"]) == 0
    said = subprocess.run(
        [env / "bin" / "python", "-c", "import tiny_library as t; print(t.value)"], capture_output=True
    )
    assert said.stdout.strip() == b"7"
    head = subprocess.run(["git", "-C", env / "code", "rev-parse", "HEAD"], capture_output=True, text=True)
    assert head.stdout.strip() == commit
    assert "licence: Their own" in caplog.text and "their/weights" in caplog.text
    assert main([*flags, "--list"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("authors-model")]
    assert line.endswith("yes")
    own.write_text(table.replace(version, "3.1"))
    shutil.rmtree(env)
    assert main([*flags, "--setup", "authors-model"]) == 2
    assert "authors-model needs Python 3.1, which is not on PATH" in capsys.readouterr().err
