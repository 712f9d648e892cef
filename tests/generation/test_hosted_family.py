"""The hosted models against a server on this machine: nothing is lost, nothing is paid for twice."""

import datetime
import json
from itertools import product

import pytest

from dyneval.errors import GenerationError
from dyneval.files import images
from dyneval.generation import catalogue
from dyneval.generation.families.hosted import retry_after
from dyneval.generation.gendb import GenDB
from dyneval.generation.model import BuildOptions, RunOptions
from dyneval.generation.runner import Config, generate

from . import image_api
from .tried import check_row

MODELS = ["gpt-image-1-5", "nanobanana"]
ALL = [*MODELS, "gpt-image-2-6"]


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


@pytest.mark.parametrize("slug", ALL)
def test_images_are_saved_with_their_cost(slug, api, tmp_path):
    summary = run(slug, api, tmp_path, [f"cat {n}" for n in range(12)])
    assert (summary.total("made"), summary.exit_status) == (12, 0)
    assert 1 < api.most_open <= 4
    for row in rows(tmp_path / "gendb" / "metadata.jsonl"):
        path = tmp_path / "gendb" / row["file_name"]
        assert path.read_bytes().startswith(b"\x89PNG")  # whatever format the service sends
        assert images.load_image(path).size == (1024, 1024)
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
    assert run(slug, api, tmp_path / "gendb", ["a blocked prompt"]).total("refused") == 1


@pytest.mark.parametrize("slug", MODELS)
def test_the_server_is_waited_for_as_long_as_it_asks(slug, api, tmp_path):
    summary = run(slug, api, tmp_path, ["slow down", "stumble"])
    assert (summary.total("made"), summary.exit_status) == (2, 0)
    first, second = [at for at, prompt in api.times if prompt == "slow down"]
    assert second - first >= 0.6
    assert api.asked["stumble"] == 2


@pytest.mark.parametrize("slug", MODELS)
def test_trouble_that_does_not_end_is_missing_and_retried_by_the_next_run(slug, api, tmp_path):
    summary = run(slug, api, tmp_path, ["never up", "torn", "a cat", "tomorrow", "nothing"])
    assert (summary.total("made"), summary.total("missing"), summary.exit_status) == (1, 4, 1)
    assert (api.asked["never up"], api.asked["tomorrow"]) == (6, 1)
    reasons = {row["pair_id"]: row["reason"] for row in rows(tmp_path / "gendb" / "metadata.rejects.jsonl")}
    assert "after 6 attempts" in reasons[f"P0-{slug}"]
    assert "the reply's image: the image is broken" in reasons[f"P1-{slug}"]
    run(slug, api, tmp_path, ["never up", "torn", "a cat", "tomorrow", "nothing"])
    assert api.asked["torn"] == 2
    assert api.asked["a cat"] == 1


ENDS = ["wrong key", "echo", "barred", "bill", "no money", "argument", "retired"]


@pytest.mark.parametrize(("slug", "prompt"), list(product(MODELS, ENDS)))
def test_what_no_other_prompt_would_mend_ends_the_run_in_the_words_of_the_vendor(slug, prompt, api, tmp_path, caplog):
    """A key, a country, an account, an argument, an id: no prompt is marked as refused for it."""
    caplog.set_level("DEBUG")
    summary = run(slug, api, tmp_path, [f"{prompt} {n}" for n in range(30)])
    assert (summary.exit_status, summary.total("refused"), summary.total("missing")) == (1, 0, 30)
    words = {"wrong key": "key", "echo": "suspended", "barred": "location", "bill": "billing", "argument": "17x17"}
    assert words.get(prompt, "") in summary.models[0].error
    assert sum(api.asked.values()) <= 4
    assert not (tmp_path / "gendb" / "refused.jsonl").exists()
    written = "".join(path.read_text() for path in (tmp_path / "gendb").rglob("*") if path.is_file())
    ours = "".join(record.getMessage() for record in caplog.records if record.name.startswith("dyneval"))
    assert "a-secret-key" not in written + ours
    run(slug, api, tmp_path, [f"{prompt} {n}" for n in range(30)])
    assert sum(api.asked.values()) > 4  # asked again by the next run


@pytest.mark.parametrize(("slug", "prompt"), list(product(MODELS, ["page", "garbled"])))
def test_an_answer_that_is_no_image_is_one_failed_image_and_paid_once(slug, prompt, api, tmp_path):
    summary = run(slug, api, tmp_path, [f"{prompt} 1", "a cat", f"{prompt} 2", "a dog"])
    assert (summary.total("made"), summary.total("missing"), summary.models[0].error) == (2, 2, None)
    assert set(api.asked.values()) == {1}
    for row in rows(tmp_path / "gendb" / "metadata.rejects.jsonl"):
        assert "the reply" in row["reason"] and row["kind"] == "failed"
        if slug == "gpt-image-1-5" and prompt == "garbled":
            assert row["output_tokens"] == 1000


@pytest.mark.parametrize("slug", MODELS)
def test_no_part_of_the_key_is_kept_of_a_long_answer(slug, api, tmp_path):
    assert run(slug, api, tmp_path, ["babble"]).total("missing") == 1
    (row,) = rows(tmp_path / "gendb" / "metadata.rejects.jsonl")
    assert row["reason"].endswith("x [the API key]")


@pytest.mark.parametrize(("slug", "name"), [("gpt-image-1-5", "background"), ("nanobanana", "aspect_ratio")])
def test_an_argument_that_cannot_be_sent_ends_the_run_before_anything_is(slug, name, api, tmp_path):
    build = BuildOptions(preset="paper", overrides={name: datetime.date(2026, 1, 1)})
    summary = run(slug, api, tmp_path, ["a cat", "a dog"], build=build)
    assert f"{slug}: nothing can be sent: " in summary.models[0].error
    assert (summary.total("missing"), api.asked) == (2, {})


def test_a_prompt_that_is_too_long_costs_itself_alone(api, tmp_path):
    summary = run("gpt-image-1-5", api, tmp_path, ["a cat", "far too long"])
    assert (summary.total("made"), summary.total("refused"), summary.exit_status) == (1, 1, 3)


def test_a_thought_is_no_image_but_is_billed(api, tmp_path):
    run("nanobanana", api, tmp_path, ["think about a cat"])
    (row,) = rows(tmp_path / "gendb" / "metadata.jsonl")
    assert row["width"] == 64
    assert row["settings"]["details"]["output_tokens"] == 1077
    assert row["settings"]["details"]["cost_usd"] == pytest.approx((10 * 5 + 1077 * 40) / 1e6)


@pytest.mark.parametrize("slug", MODELS)
def test_another_size_than_asked_for_is_told(slug, api, tmp_path, caplog):
    run(slug, api, tmp_path, ["a small cat"])
    (row,) = rows(tmp_path / "gendb" / "metadata.jsonl")
    assert (row["width"], row["settings"]["details"]["asked_size"]) == (64, [1024, 1024])
    assert f"{slug} draws 64x64, not 1024x1024 as asked for" in caplog.text


def test_an_id_that_was_shut_down_is_answered_with_the_current_one(tmp_path, monkeypatch):
    """Before anything is sent: the server of this machine is not asked, and the vendor's is not either."""
    monkeypatch.setenv("GEMINI_API_KEY", "a-secret-key")
    (tmp_path / "prompts.jsonl").write_text('{"prompt_id": "P", "prompt": "a cat", "tier": 1}\n')
    model = catalogue.load()["nanobanana"]
    for build in (BuildOptions(variant="2.5-flash-image"), BuildOptions(preset="paper")):
        config = Config(prompts=tmp_path / "prompts.jsonl", output=tmp_path / "gendb", build=build)
        summary = generate([model], [model], config)
        error = summary.models[0].error
        assert "shuts down on 2026-" in error
        assert "the current id is gemini-3.1-flash-image: --variant 3.1-flash-image" in error


def test_a_variant_that_is_asked_for_comes_before_the_weights_of_a_preset(api, tmp_path):
    """As the advice about an id that was shut down says."""
    run("nanobanana", api, tmp_path, ["a cat"], build=BuildOptions(preset="paper", variant="3.1-flash-image"))
    assert "gemini-3.1-flash-image:" in api.bodies[0]["path"]
    (row,) = rows(tmp_path / "gendb" / "metadata.jsonl")
    assert (row["settings"]["variant"], row["settings"]["repo"]) == ("3.1-flash-image", "gemini-3.1-flash-image")
    spec = catalogue.load()["nanobanana"]
    paper = spec.settings(BuildOptions(preset="paper"))
    assert (paper["variant"], paper["repo"]) == (None, "gemini-3.1-flash-image-preview")
    with pytest.raises(GenerationError, match=r"id is gemini-3\.1-flash-image: --repo gemini-3\.1-flash-image$"):
        spec.build(BuildOptions(repo="gemini-2.5-flash-image"), RunOptions(), "cpu")


def test_the_ids_of_the_table_are_dated(api, tmp_path):
    ids = {name: known for slug in MODELS for name, known in catalogue.load()[slug].ids.items()}
    assert str(ids["gpt-image-1.5"].shutdown) == "2026-12-01"
    assert all(known.successor and known.source for known in ids.values())
    summary = run("gpt-image-1-5", api, tmp_path, ["a retired model"])
    assert "no such model; gpt-image-1.5 shuts down on 2026-12-01" in summary.models[0].error
    assert "--variant 2.6-sunburst" in summary.models[0].error


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


@pytest.mark.parametrize("slug", ALL)
def test_the_row_of_the_table(slug):
    spec = catalogue.load()[slug]
    client = spec.model.rpartition(":")[2]
    check_row(
        slug, spec, f"{client} against a server on this machine", "28 documented answers; many in flight; resumed"
    )
