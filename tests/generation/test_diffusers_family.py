"""What is special to single diffusers models, and to all of them: arguments, commits, sizes, safety, wording."""

import inspect
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from dyneval.cli.generate import run_model
from dyneval.errors import GenerationError
from dyneval.generation import catalogue
from dyneval.generation.devices import fitting_placement
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.families.weights import device_errors
from dyneval.generation.model import BatchTooLarge, BuildOptions, GeneratedImage, ImageRequest, RunOptions

from . import tiny_pipelines as tiny
from .conftest import read

SPECS = {slug: spec for slug, spec in catalogue.load().items() if isinstance(spec, DiffusersSpec)}
HERE = [slug for slug, spec in SPECS.items() if "pip install -U diffusers" not in spec.obstacles(RunOptions())]
"""Those that the installed diffusers has."""
REQUESTS = [
    ImageRequest(pair_id="a", prompt_id="a", prompt="a cat on a mat", seed=5, tier=1),
    ImageRequest(pair_id="b", prompt_id="b", prompt='two red dogs and the word "stop"', seed=6, tier=1),
]
SMALL = {"num_inference_steps": 2, "height": 32, "width": 32, "use_resolution_binning": False}


@pytest.fixture(scope="session", autouse=True)
def quiet():
    import diffusers

    torch.set_num_threads(1)
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def repos(tmp_path_factory):
    return tmp_path_factory.mktemp("repos")


def small(spec, options):
    """The preset's arguments, but few steps and few pixels; the names stay those of the preset."""
    arguments = spec.arguments(options)
    if "stage_1" in arguments:
        return {name: {**stage, "num_inference_steps": 2} for name, stage in arguments.items()}
    known = {*arguments, *spec.reads(options)}
    return {name: value for name, value in SMALL.items() if name in known}


def build(slug, repos, **options):
    spec, options = SPECS[slug], BuildOptions(**options)
    repo = options.repo or str(tiny.save(spec.pipeline_name(options), repos, spec.load.get("variant")))
    overrides = {**small(spec, options), **options.overrides}
    options = replace(options, repo=repo, parts=tiny.make_parts(spec, repos), overrides=overrides)
    return spec.build(options, RunOptions(), "cpu")


def pixels(outcome):
    return np.asarray(outcome.image).astype(int)


@pytest.mark.parametrize("slug", HERE)
def test_the_pipeline_takes_every_argument_of_the_presets(slug):
    import diffusers

    spec = SPECS[slug]
    ours = {"photograph_negative_prompt"}
    for preset in spec.presets:
        for variant in spec.variants:
            options = BuildOptions(preset=preset, variant=variant)
            call = inspect.signature(getattr(diffusers, spec.pipeline_name(options)).__call__).parameters
            arguments = spec.arguments(options)
            if "stage_1" not in arguments:
                assert set(arguments) - ours <= set(call)


def test_an_image_depends_on_its_seed(repos):
    model = build("sdxl", repos)
    (one,), (other,) = (list(model.generate([replace(REQUESTS[0], seed=seed)])) for seed in (5, 99))
    assert np.abs(pixels(other) - pixels(one)).max() > 2


def test_the_paper_preset_may_run_other_weights_by_another_class(repos):
    model = build("pixart-alpha", repos, preset="paper")
    assert type(model.pipeline).__name__ == "PixArtSigmaPipeline"
    assert [type(outcome) for outcome in model.generate(REQUESTS)] == [GeneratedImage, GeneratedImage]


def test_the_lora_file_is_the_one_the_variant_names(repos):
    images = [
        pixels(next(build("in-context-lora", repos, variant=variant).generate(REQUESTS[:1])))
        for variant in ("couple-profile", "film-storyboard")
    ]
    assert np.abs(images[0] - images[1]).max() > 2


def test_the_prompt_sent_is_recorded_with_suffix_rewriting_and_wrapping(repos):
    def sent(slug, prompt="a cat on a mat"):
        (outcome,) = build(slug, repos).generate([replace(REQUESTS[0], prompt=prompt)])
        return outcome.prompt_sent

    assert sent("qwen-image") == "a cat on a mat, Ultra HD, 4K, cinematic composition."
    assert sent("qwen-image", "一只猫") == "一只猫, 超清，4K，电影级构图."
    assert json.loads(sent("fibo")) == {"short_description": "a cat on a mat"}
    assert sent("sana").startswith("Given a user prompt")
    assert sent("sana", " A Cat on a mat ").endswith("a cat on a mat")  # as the pipeline reads it
    assert sent("pixart-sigma", "A Cat") == sent("if-xl", " A cat") == "a cat"
    assert sent("longcat-image") == sent("longcat-image") != "a cat on a mat"
    assert sent("z-image") == "a cat on a mat"  # the pipeline writes its chat template into the list it gets


def test_the_safety_checker_is_heard(repos, tmp_path):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny.save("StableDiffusionPipeline", repos))
    with torch.no_grad():
        pipeline.safety_checker.concept_embeds_weights.fill_(-2)  # nearer than this is everything
    pipeline.save_pretrained(tmp_path / "strict")
    spec = SPECS["sd1-5"]
    options = BuildOptions(repo=str(tmp_path / "strict"), overrides=small(spec, BuildOptions()))
    outcomes = spec.build(options, RunOptions(), "cpu").generate(REQUESTS)
    assert [outcome.safety for outcome in outcomes] == [True, True]
    assert [outcome.safety for outcome in build("sd1-5", repos).generate(REQUESTS)] == [False, False]
    assert [outcome.safety for outcome in build("sdxl", repos).generate(REQUESTS)] == [None, None]


@pytest.mark.parametrize("preset", ["recommended", "paper"])
def test_the_safety_checker_of_if_is_loaded_and_heard(preset, repos, tmp_path):
    """The published checker does not load with transformers 5, and no checker hears of the tensors between stages."""
    repo = tmp_path / "strict"
    shutil.copytree(tiny.save("IFPipeline", repos, "fp16"), repo)
    tiny.add_if_judges(repo, "fp16", flags=True)
    outcomes = build("if-xl", repos, repo=str(repo), preset=preset).generate(REQUESTS)
    assert [outcome.safety for outcome in outcomes] == [True, True]
    assert [outcome.safety for outcome in build("if-xl", repos, preset=preset).generate(REQUESTS)] == [False, False]


def test_what_writes_json_for_fibo_decides_on_the_negative_prompt(repos):
    requests = [REQUESTS[0], replace(REQUESTS[1], prompt="a photo of a dog")]
    model = build("fibo", repos)
    notes = [outcome.details["negative_prompt"] for outcome in model.generate(requests)]
    assert notes == ["", SPECS["fibo"].arguments(BuildOptions())["photograph_negative_prompt"]]
    assert model.facts["weights"][tiny.make_parts(SPECS["fibo"], repos)["prompt_to_json"]] == "local"


def test_a_size_that_is_rounded_is_told_and_recorded(repos, caplog):
    (outcome,) = build("flux1-dev", repos, overrides={"height": 33, "width": 35}).generate(REQUESTS[:1])
    assert outcome.image.size == (32, 32)
    assert outcome.details == {"asked_size": [35, 33]}
    assert "flux1-dev draws 32x32, not 35x33 as asked for" in caplog.text
    (outcome,) = build("flux1-dev", repos).generate(REQUESTS[:1])
    assert outcome.details == {}


def test_tokens_of_glm_image_come_from_the_generator_of_the_image(repos):
    model = build("glm-image", repos)
    images = []
    for _ in range(2):
        torch.manual_seed(len(images))  # what the global generator does is not seen
        images.append(pixels(next(model.generate(REQUESTS[:1]))))
    assert (images[0] == images[1]).all()


@pytest.mark.parametrize(
    ("slug", "words", "reason"),
    [
        ("sd1-5", "guidence_scale=3", "sd1-5 does not read 'guidence_scale'; did you mean guidance_scale?"),
        ("if-xl", "num_inference_steps=20", "if-xl does not read 'num_inference_steps'; did you mean stage_"),
        ("if-xl", 'stage_1={"steps":20}', "if-xl does not read 'stage_1.steps'"),
        ("janus-pro", "zzqq=3", "janus-pro does not read 'zzqq'; there are "),
        ("emu3", "top_p=0.5", "emu3 does not read 'top_p'"),
        ("hidream-i1", "prompt_3=x", "hidream-i1 does not read 'prompt_3'"),
        ("sdxl", "output_type=latent", "sdxl does not read 'output_type'"),
        ("sdxl", "num_inference_steps=many", "sdxl: num_inference_steps is 50 in the preset; it cannot be 'many'"),
        ("sdxl", "num_inference_steps=2.5", "it cannot be 2.5"),
        ("bagel", "steps=3", "bagel does not read 'steps'"),
        ("gpt-image-1-5", "sise=1x1", "gpt-image-1-5 does not read 'sise'; did you mean size?"),
        ("nanobanana", "ratio=1:1", "nanobanana does not read 'ratio'"),
    ],
)
def test_an_argument_that_the_model_does_not_read_is_refused_before_loading(slug, words, reason, tmp_path, capsys):
    (tmp_path / "tier-3-prompts.txt").write_text("a cat\n")
    flags = ["--prompts", str(tmp_path / "tier-3-prompts.txt"), "--output", str(tmp_path / "gendb"), "--any-tier"]
    assert run_model(slug, [*flags, "--set", words]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "gendb").exists()


def test_an_argument_of_a_table_that_the_pipeline_does_not_read_ends_the_run_before_loading(tmp_path):
    (tmp_path / "own.toml").write_text("[flux1-dev.presets.recommended.arguments]\nguidance = 3.5\n")
    spec = catalogue.load(tmp_path / "own.toml")["flux1-dev"]
    with pytest.raises(GenerationError, match="FluxPipeline does not read 'guidance'; did you mean guidance_scale"):
        spec.build(BuildOptions(repo=str(tmp_path / "nowhere")), RunOptions(), "cpu")


def test_arguments_that_are_read_are_set_and_recorded(tmp_path):
    known = SPECS["if-xl"]
    options = BuildOptions(overrides={"stage_1.num_inference_steps": 20})
    known.check(options)
    assert known.arguments(options)["stage_1"] == {"num_inference_steps": 20, "guidance_scale": 7.0}
    SPECS["sdxl"].check(BuildOptions(overrides={"guidance_scale": 4, "negative_prompt": "dull", "clip_skip": 1}))


def hub_cache(folder, repo, source, commit):
    """A repo in the cache of the Hub as downloading leaves it, its main at `commit`."""
    cache = folder / f"models--{repo.replace('/', '--')}"
    shutil.copytree(source, cache / "snapshots" / commit, dirs_exist_ok=True)
    (cache / "refs").mkdir(exist_ok=True)
    (cache / "refs" / "main").write_text(commit)


@pytest.mark.parametrize("how", [[], ["--revision", "main"]], ids=["newest", "branch"])
def test_images_of_a_folder_come_from_the_commit_of_the_first_although_the_repo_moved(
    how, repos, tmp_path, monkeypatch, caplog
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    source = tiny.save("StableDiffusionXLPipeline", repos, "fp16")
    old, new = "a" * 40, "b" * 40
    repo = SPECS["sdxl"].repo(BuildOptions())
    hub_cache(tmp_path / "cache", repo, source, old)
    small_set = [word for name, value in list(SMALL.items())[:3] for word in ("--set", f"{name}={value}")]
    prompts = tmp_path / "tier-3-prompts.txt"
    flags = ["--prompts", str(prompts), "--output", str(tmp_path / "gendb"), "--allocation", "all", *small_set]

    def run(count, *more):
        prompts.write_text("".join(f"cat {n}\n" for n in range(count)))
        status = run_model("sdxl", [*flags, "--devices", "cpu", *more])
        rows = read(tmp_path / "gendb" / "metadata.jsonl")
        return status, [row["settings"]["revision"] for row in rows]

    assert run(1, *how) == (0, [old])
    hub_cache(tmp_path / "cache", repo, source, new)
    assert run(2, *how) == (0, [old, old])
    assert run(3, "--revision", old) == (0, [old, old, old])
    status, revisions = run(4, "--revision", new)
    assert (status, revisions) == (1, [old, old, old])
    named = how[1] if how else None
    assert f"requested_revision {named!r} -> '{new}'" in caplog.text


def test_the_commit_of_a_lora_is_recorded(repos, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    hub_cache(tmp_path, "ali-vilab/In-Context-LoRA", tiny.save_lora(repos), "c" * 40)
    spec = SPECS["in-context-lora"]
    repo = str(tiny.save("FluxPipeline", repos))
    options = BuildOptions(repo=repo, overrides=small(spec, BuildOptions()))
    model = spec.build(options, RunOptions(), "cpu")
    assert model.facts["weights"] == {repo: "local", "ali-vilab/In-Context-LoRA": "c" * 40}


def test_weights_that_cannot_be_loaded_are_one_clear_line(tmp_path, monkeypatch):
    from huggingface_hub import constants

    spec = SPECS["flux1-dev"]
    with pytest.raises(GenerationError, match=r"flux1-dev: cannot load nobody/nothing .*licence must be accepted"):
        spec.build(BuildOptions(repo="nobody/nothing"), RunOptions(), "cpu")
    with pytest.raises(GenerationError, match=r"flux1-dev: cannot load .*nowhere") as caught:
        spec.build(BuildOptions(repo=str(tmp_path / "nowhere")), RunOptions(), "cpu")
    assert "licence" not in str(caught.value)  # a folder has no gate
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(GenerationError, match="HF_HUB_OFFLINE is set: nothing is downloaded"):
        SPECS["sdxl"].build(BuildOptions(repo="nobody/nothing"), RunOptions(), "cpu")
    with pytest.raises(GenerationError, match=r"no variant 'pro'; choose from dev"):
        spec.build(BuildOptions(variant="pro"), RunOptions(), "cpu")
    with pytest.raises(GenerationError, match=r"no part 'vlm'; it has: llama"):
        SPECS["hidream-i1"].settings(BuildOptions(parts={"vlm": "x"}))


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cpu:x"])
def test_a_device_that_is_not_there_is_told_before_loading(device, tmp_path, caplog):
    (tmp_path / "mine.txt").write_text("a cat\n")
    flags = ["--prompts", str(tmp_path / "mine.txt"), "--output", str(tmp_path / "gendb"), "--devices", device]
    assert run_model("sdxl", [*flags, "--repo", str(tmp_path / "nowhere")]) == 1
    assert f"sdxl: --devices {device}: there is no such device here" in caplog.messages[-1]


def test_memory_that_runs_out_is_told_from_other_errors():
    with pytest.raises(BatchTooLarge), device_errors():
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="boom"), device_errors():
        raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("sizes", "free", "placement"),
    [
        ([10, 20], 40, "resident"),
        ([10, 20], 30, "model_offload"),
        ([10, 20], 20, "sequential_offload"),
        ([], 4, "resident"),
    ],
)
def test_weights_are_placed_where_they_fit(sizes, free, placement):
    gib = 2**30
    assert fitting_placement([size * gib for size in sizes], free * gib) == placement
