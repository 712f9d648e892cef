"""Every diffusers model of the 36 draws, with its own script and presets, from tiny weights in a repo's layout."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dyneval.errors import GenerationError
from dyneval.generation import catalogue
from dyneval.generation.devices import fitting_placement
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.families.weights import device_errors
from dyneval.generation.model import BatchTooLarge, BuildOptions, Made, Request, RunOptions

from . import tiny_pipelines as tiny

SPECS = {slug: spec for slug, spec in catalogue.load().items() if isinstance(spec, DiffusersSpec)}
NEEDS_TORCHVISION = {"omnigen"}
"""Not even its class can be made without torchvision; only its signature is checked."""
REQUESTS = [
    Request(pair_id="a", prompt_id="a", prompt="a cat on a mat", seed=5, tier=1),
    Request(pair_id="b", prompt_id="b", prompt='two red dogs and the word "stop"', seed=6, tier=1),
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
    """The preset's arguments, but few steps and few pixels; the names stay those of the script."""
    arguments = spec.arguments(options)
    if "stage_1" in arguments:
        return {name: {**stage, "num_inference_steps": 2} for name, stage in arguments.items()}
    signature = tiny_signature(spec, options)
    return {name: value for name, value in SMALL.items() if name in signature}


def tiny_signature(spec, options):
    import inspect

    import diffusers

    return inspect.signature(getattr(diffusers, spec.pipeline_name(options)).__call__).parameters


def local(spec, options, repos, make_parts):
    variant = spec.load.get("variant")
    repo = str(tiny.save(spec.pipeline_name(options), repos, variant))
    return replace(options, repo=repo, parts=make_parts(spec, repos), overrides=small(spec, options))


def make_parts(spec, repos):
    makers = {
        "llama": tiny.save_llama,
        "lora": tiny.save_lora,
        "prompt_to_json": tiny.save_json_writer,
        "stage_2": lambda folder: tiny.save("IFSuperResolutionPipeline", folder, "fp16"),
        "stage_3": lambda folder: tiny.save("StableDiffusionUpscalePipeline", folder),
    }
    return {name: str(makers[name](repos)) for name in spec.parts}


def build(slug, repos, **options):
    spec = SPECS[slug]
    options = local(spec, BuildOptions(**options), repos, make_parts)
    return spec.build(options, RunOptions(), "cpu")


def pixels(outcome):
    return np.asarray(outcome.image).astype(int)


CASES = [(slug, preset) for slug, spec in SPECS.items() for preset in spec.presets]


def repeats_recommended(slug, preset):
    spec = SPECS[slug]
    this, recommended = (spec.settings(BuildOptions(preset=name)) for name in (preset, "recommended"))
    return preset != "recommended" and {**this, "preset": ""} == {**recommended, "preset": ""}


RUN = [case for case in CASES if case[0] not in NEEDS_TORCHVISION and not repeats_recommended(*case)]


@pytest.mark.parametrize(("slug", "preset"), CASES)
def test_the_pipeline_takes_every_argument_of_the_script(slug, preset):
    spec, options = SPECS[slug], BuildOptions(preset=preset)
    for variant in spec.variants:
        arguments = spec.arguments(replace(options, variant=variant))
        if "stage_1" not in arguments:
            assert set(arguments) <= set(tiny_signature(spec, options))


@pytest.mark.parametrize(("slug", "preset"), RUN)
def test_images_come_out_and_depend_on_the_seed_not_on_the_batch(slug, preset, repos):
    model = build(slug, repos, preset=preset)
    batch = REQUESTS if SPECS[slug].batches else REQUESTS[:1]
    outcomes = list(model.generate(batch))
    assert [type(outcome) for outcome in outcomes] == [Made] * len(batch)
    assert all(pixels(outcome).std() > 1 for outcome in outcomes)
    (alone,) = model.generate(REQUESTS[:1])
    assert np.abs(pixels(alone) - pixels(outcomes[0])).max() <= 2
    (other,) = model.generate([replace(REQUESTS[0], seed=99)])
    assert np.abs(pixels(other) - pixels(alone)).max() > 2
    assert model.facts["dtype"] == "float32"
    assert model.facts["revision"] == "local"
    assert model.facts["versions"]["diffusers"]


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
    assert sent("sana").endswith("a cat on a mat")
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


def test_weights_that_cannot_be_loaded_are_one_clear_line(tmp_path):
    spec = SPECS["flux1-dev"]
    with pytest.raises(GenerationError, match=r"flux1-dev: cannot load .*nowhere.*licence must be accepted"):
        spec.build(BuildOptions(repo=str(tmp_path / "nowhere")), RunOptions(), "cpu")
    with pytest.raises(GenerationError, match=r"no variant 'pro'; choose from dev"):
        spec.build(BuildOptions(variant="pro"), RunOptions(), "cpu")
    with pytest.raises(GenerationError, match=r"no part 'vlm'; it has: llama"):
        SPECS["hidream-i1"].settings(BuildOptions(parts={"vlm": "x"}))


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
