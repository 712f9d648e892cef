"""The hosted models against a server on this machine: nothing is lost, nothing is paid for twice."""

import json

import pytest

from dyneval.files import images
from dyneval.generation import catalogue
from dyneval.generation.families.hosted import retry_after
from dyneval.generation.gendb import GenDB
from dyneval.generation.model import BuildOptions, RunOptions
from dyneval.generation.runner import Config, generate

from . import image_api

MODELS = ["gpt-image-1-5", "nanobanana"]


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret-key")
    monkeypatch.setenv("GEMINI_API_KEY", "a-secret-key")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    with image_api.running() as server:
        yield server


def run(slug, api, folder, texts, **config):
    rows = [{"prompt_id": f"P{n}", "prompt": text, "tier": 1, "categories": []} for n, text in enumerate(texts)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = catalogue.load()[slug]
    url = api.url + ("/v1" if slug.startswith("gpt") else "")
    options = RunOptions(base_url=url, concurrency=4, prices=(5.0, 40.0))
    return generate(
        [model], [model], Config(prompts=folder / "prompts.jsonl", output=folder / "gendb", run=options, **config)
    )


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("slug", MODELS)
def test_images_are_saved_with_their_cost(slug, api, tmp_path):
    summary = run(slug, api, tmp_path, [f"cat {n}" for n in range(12)])
    assert (summary.total("made"), summary.exit_status) == (12, 0)
    assert 1 < api.most_open <= 4
    for row in rows(tmp_path / "gendb" / "metadata.jsonl"):
        path = tmp_path / "gendb" / row["file_name"]
        assert path.read_bytes().startswith(b"\x89PNG")  # whatever format the service sends
        assert images.load_image(path).size == (64, 64)
        assert row["settings"]["details"] == {"input_tokens": 10, "output_tokens": 1000, "cost_usd": 0.04005}
        assert ("seed" in row) == (slug == "nanobanana")
    assert summary.models[0].cost_usd == pytest.approx(12 * 0.04005)
    assert "a-secret-key" not in (tmp_path / "gendb" / "metadata.jsonl").read_text()


@pytest.mark.parametrize("slug", MODELS)
def test_a_refusal_is_recorded_and_not_asked_again(slug, api, tmp_path):
    summary = run(slug, api, tmp_path, ["a cat", "something forbidden"])
    assert (summary.total("made"), summary.total("refused"), summary.exit_status) == (1, 1, 3)
    (refusal,) = rows(tmp_path / "gendb" / "refused.jsonl")
    assert refusal["prompt"] == "something forbidden"
    assert "moderation_blocked" in refusal["reason"] or "IMAGE_SAFETY" in refusal["reason"]
    run(slug, api, tmp_path, ["a cat", "something forbidden"])
    assert api.asked == {"a cat": 1, "something forbidden": 1}
    run(slug, api, tmp_path, ["a cat", "something forbidden"], retry_refused=True)
    assert api.asked == {"a cat": 1, "something forbidden": 2}


@pytest.mark.parametrize("slug", MODELS)
def test_the_server_is_waited_for_as_long_as_it_asks(slug, api, tmp_path):
    summary = run(slug, api, tmp_path, ["slow down", "stumble"])
    assert (summary.total("made"), summary.exit_status) == (2, 0)
    first, second = [at for at, prompt in api.times if prompt == "slow down"]
    assert second - first >= 0.6
    assert api.asked["stumble"] == 2


@pytest.mark.parametrize("slug", MODELS)
def test_trouble_that_does_not_end_is_missing_and_retried_by_the_next_run(slug, api, tmp_path):
    summary = run(slug, api, tmp_path, ["never up", "torn", "a cat"])
    assert (summary.total("made"), summary.total("missing"), summary.exit_status) == (1, 2, 1)
    assert api.asked["never up"] == 6
    reasons = {row["pair_id"]: row["reason"] for row in rows(tmp_path / "gendb" / "metadata.rejects.jsonl")}
    assert "after 6 attempts" in reasons[f"P0-{slug}"]
    assert "not an image" in reasons[f"P1-{slug}"]
    run(slug, api, tmp_path, ["never up", "torn", "a cat"])
    assert api.asked["torn"] == 2
    assert api.asked["a cat"] == 1


@pytest.mark.parametrize(("slug", "prompt"), [*((slug, "wrong key") for slug in MODELS), ("gpt-image-1-5", "no money")])
def test_a_rejected_key_or_empty_account_ends_the_run_at_once(slug, prompt, api, tmp_path):
    summary = run(slug, api, tmp_path, [f"{prompt} {n}" for n in range(30)])
    assert summary.exit_status == 1
    assert slug in summary.models[0].error
    assert sum(api.asked.values()) <= 4
    assert "a-secret-key" not in summary.models[0].error


def test_a_missing_key_is_named(api, tmp_path, monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    summary = run("nanobanana", api, tmp_path, ["a cat"])
    assert "set GEMINI_API_KEY or GOOGLE_API_KEY" in summary.models[0].error


def test_what_is_sent_is_what_the_preset_says(api, tmp_path):
    run("gpt-image-1-5", api, tmp_path, ["a cat"])
    run("nanobanana", api, tmp_path, ["a cat"], build=BuildOptions(preset="paper"))
    run("nanobanana", api, tmp_path / "gendb", ["a cat"])
    gpt, preview, current = api.bodies
    assert gpt == {
        "path": "/v1/images/generations",
        **{"model": "gpt-image-1.5", "prompt": "a cat", "n": 1, "size": "1024x1024", "quality": "auto"},
    }
    assert "gemini-3.1-flash-image-preview:" in preview["path"]
    assert preview["generationConfig"]["responseModalities"] == ["TEXT", "IMAGE"]
    assert "imageConfig" not in preview["generationConfig"]
    assert "gemini-3.1-flash-image:" in current["path"]
    assert current["generationConfig"]["imageConfig"] == {"aspectRatio": "1:1", "imageSize": "1K"}
    with GenDB(tmp_path / "gendb" / "gendb", "look") as db:
        assert db.index["P0-nanobanana"]


def test_retry_after_is_read_as_seconds_and_as_a_date():
    assert retry_after({"Retry-After": "7"}) == 7
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({}) is None


@pytest.mark.parametrize("slug", MODELS)
def test_both_presets_can_be_asked_for(slug):
    spec = catalogue.load()[slug]
    assert spec.settings(BuildOptions(preset="paper")) != spec.settings(BuildOptions())
