"""The table of models in the wheel, tables of one's own over it, and a script for every model."""

import csv
import importlib.util
import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import torch

from dyneval import model_table
from dyneval.cli.generate import main
from dyneval.errors import DataFileError, GenerationError, SettingError
from dyneval.generation import catalogue
from dyneval.generation.model import BuildOptions
from dyneval.hashing import fingerprint

SCRIPTS = Path(__file__).parents[2] / "image_gen_scripts"
SPECS = catalogue.load()
PAPER = {spec.slug: spec for spec in catalogue.members(SPECS)}
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "published_leaderboard_dyneval_1k.csv"


def test_the_36_models_of_the_paper_are_there_and_each_model_has_a_short_script():
    assert Counter(s.family for s in PAPER.values()) == {"diffusers": 25, "transformers": 2, "hosted": 2, "external": 7}
    assert Counter(s.tier for s in PAPER.values()) == {1: 7, 2: 19, 3: 10}
    scripts = {path.stem: path.read_text() for path in SCRIPTS.glob("*.py") if path.stem not in ("generate", "gendb")}
    real = [spec for spec in SPECS.values() if spec.family != "demo"]
    assert set(scripts) == {spec.slug.replace("-", "_") for spec in real}
    for spec in real:
        text = scripts[spec.slug.replace("-", "_")]
        assert len(text.splitlines()) == 11 and f'run_model("{spec.slug}")' in text
        assert f"(tier {spec.tier})" in text


@pytest.mark.parametrize("slug", PAPER)
def test_a_model_of_the_paper_has_both_presets_and_says_how_the_published_script_differs(slug):
    spec = SPECS[slug]
    assert set(spec.presets) == {"recommended", "paper"}
    assert spec.default_preset == "recommended"
    assert spec.presets["paper"].note
    paper, recommended = ({**spec.settings(BuildOptions(preset=name)), "preset": ""} for name in spec.presets)
    assert paper == recommended or spec.presets["recommended"].note
    marks = {
        fingerprint(spec.settings(BuildOptions(preset=preset, variant=variant)))
        for preset in spec.presets
        for variant in spec.variants
    }
    assert len(marks) == 2 * len(spec.variants)


@pytest.mark.parametrize("slug", [spec.slug for spec in SPECS.values() if spec.family != "demo"])
def test_every_preset_says_where_its_settings_come_from_and_when_somebody_looked(slug):
    spec = SPECS[slug]
    for name, preset in spec.presets.items():
        assert preset.source and preset.date, f"{slug}, preset {name}"
    assert spec.in_paper or spec.tier_reason
    assert spec.licence


def test_images_that_come_out_otherwise_than_before_have_settings_of_their_own():
    """Their arguments are those of images that were made from the global generator."""
    for slug, variants in (("glm-image", ["glm-image"]), ("hidream-i1", ["dev", "fast"])):
        for preset, variant in product(("recommended", "paper"), variants):
            asked = SPECS[slug].settings(BuildOptions(preset=preset, variant=variant))
            then = {name: value for name, value in asked.items() if name != "sampling"}
            assert (asked["sampling"], fingerprint(asked) == fingerprint(then)) == (2, False)
    assert "sampling" not in SPECS["hidream-i1"].settings(BuildOptions())


def test_the_settings_are_those_of_the_authors_latest_code():
    def arguments(slug, variant=None, preset="recommended"):
        return SPECS[slug].arguments(BuildOptions(variant=variant, preset=preset))

    assert arguments("glm-image")["num_inference_steps"] == 50
    assert arguments("unipic")["num_iter"] == arguments("unipic", preset="paper")["num_iter"] == 32
    storyboard = arguments("in-context-lora", "film-storyboard")
    assert (storyboard["num_inference_steps"], storyboard["width"], storyboard["height"]) == (20, 1024, 1536)
    assert arguments("qwen-image")["negative_prompt"] == " "
    assert arguments("qwen-image", "2512")["negative_prompt"].startswith("低分辨率")
    assert SPECS["qwen-image"].suffix(BuildOptions(variant="2512")) == ""
    assert SPECS["qwen-image"].suffix(BuildOptions()) == ", Ultra HD, 4K, cinematic composition."


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published leaderboard is not beside this checkout")
def test_tiers_are_the_published_ones():
    with PUBLISHED.open(newline="") as file:
        published = Counter(int(row["tier"].strip()[-1]) for row in csv.DictReader(file))
    assert published == Counter(spec.tier for spec in PAPER.values())


def test_importing_the_catalogue_loads_no_heavy_library():
    code = (
        "import sys; from dyneval.generation import catalogue; catalogue.load(); "
        "print({'torch', 'diffusers', 'transformers', 'openai', 'google.genai', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_a_model_of_ones_own_runs_from_a_table_with_code_beside_it(studio, capsys):
    studio.model("mine", about="drawn by hand")
    (studio.folder / "tier-1-prompts.txt").write_text("a cat\na dog\n")
    flags = ["--models", str(studio.folder / "mine.toml"), "--model", "mine", "--devices", "cpu"]
    flags += ["--prompts", str(studio.folder / "tier-1-prompts.txt"), "--output", str(studio.output)]
    assert main([*flags, "--set", "size=48", "--contact-sheet"]) == 0
    assert [row["width"] for row in studio.records()] == [48, 48]  # a model that is not of the paper shares with none
    assert (studio.output / "contact_sheet.png").exists()
    assert main([*flags[:2], "--list"]) == 0
    assert "mine" in capsys.readouterr().out


def test_a_table_of_ones_own_changes_single_values(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text("[sdxl]\nbatch_size = 2\npresets.recommended.arguments.guidance_scale = 6.0\n")
    changed, before = catalogue.load(own)["sdxl"], SPECS["sdxl"]
    assert (changed.batch_size, changed.variants) == (2, before.variants)
    asked = changed.arguments(BuildOptions())
    assert asked == {**before.arguments(BuildOptions()), "guidance_scale": 6.0}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("[sdxl]\nguidance = 3\n", "model sdxl: unknown name 'guidance'"),
        ("[sdxl]\npresets.paper.steps = 3\n", "model sdxl, preset paper: unknown name 'steps'"),
        ("[sdxl]\ntier = 4\n", "model sdxl.*Invalid enum value 4"),
        ("[sdxl]\nbatch_size = 'two'\n", r"model sdxl: Expected `int`, got `str` - at `\$.batch_size`"),
        ("[sdxl]\npresets = 3\n", r"model sdxl: .*at `\$.presets`"),
        ("[sdxl]\npresets.paper = 'x'\n", r"model sdxl: .*at `\$.presets"),
        ("[new]\nclass = 3\n", "model new: class '3': 3 cannot be imported"),
        ("[new]\nname = 'New'\n", "model new: .*missing required field"),
        ("[new]\nfamily = 'magic'\n", "model new: no family 'magic'"),
        ("[new]\nclass = 'no_module:Spec'\n", "model new: class 'no_module:Spec': no_module cannot be imported"),
        ("[new]\nclass = 'json:Spec'\n", "model new: class 'json:Spec': json has no 'Spec'"),
        ("[Bad Slug]\n", "cannot be read as a TOML table"),
        ("sdxl = 3\n", "expected a table"),
    ],
)
def test_a_table_that_says_nonsense_is_refused_by_name(table, reason, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(table)
    with pytest.raises((GenerationError, DataFileError, SettingError), match=reason):
        catalogue.load(own)


def test_models_are_chosen_by_slug_tier_and_family():
    assert len(catalogue.choose(SPECS)) == 36
    assert len(catalogue.choose(SPECS, tier=1)) == 7
    assert [spec.slug for spec in catalogue.choose(SPECS, tier=3, family="demo")] == ["demo-doodler"]
    with pytest.raises(GenerationError, match="no model 'sdxl2'; did you mean sdxl\\?"):
        catalogue.choose(SPECS, slugs=["sdxl2"])
    mixed = catalogue.choose(SPECS, slugs=["sdxl", "demo-doodler"])
    with pytest.raises(GenerationError, match="run them apart"):
        catalogue.sharing(SPECS, mixed)


def test_the_share_of_a_model_does_not_depend_on_which_others_run():
    one = catalogue.choose(SPECS, slugs=["sdxl"])
    assert {spec.slug for spec in catalogue.sharing(SPECS, one)} == set(PAPER)


def test_names_of_a_model_lead_to_its_tier():
    tiers = model_table.tiers()
    for name in ("FLUX.2 [klein]", "flux2-klein", "PixArt-α", "PixArt-alpha", "Stable Diffusion 3.5 Large", "FIBO"):
        assert tiers[model_table.model_key(name)] in (1, 2)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("[mine]\nname = '[?]'\ntier = 1\n", r"model mine: the name '\[\?\]' has no letter"),
        (
            "[mine]\nname = 'SD XL'\ntier = 1\naliases = ['sdxl']\n",
            "the models sdxl and mine cannot both be called 'SD XL'",
        ),
    ],
)
def test_a_name_that_means_no_model_or_two_is_refused(table, reason, tmp_path):
    (tmp_path / "own.toml").write_text(table)
    with pytest.raises(DataFileError, match=reason):
        model_table.tiers(tmp_path / "own.toml")


def test_names_in_any_script_are_told_apart(tmp_path):
    (tmp_path / "own.toml").write_text("[a]\nname = '通义万相'\ntier = 1\n[b]\nname = '文心'\ntier = 2\n")
    tiers = model_table.tiers(tmp_path / "own.toml")
    assert (tiers[model_table.model_key("通义 万相")], tiers[model_table.model_key("文心")]) == (1, 2)


def listed(flags, capsys):
    """Last column of `--list` by slug."""
    assert main([*flags, "--list"]) == 0
    return {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}


def test_the_list_says_what_installs_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "x")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    table = """
        [old]
        name = "Old"
        tier = 1
        pipeline = "PipelineOfTomorrow"
        packages = ["torchvision", "no.such_package"]
        variants = { x = "me/x" }
        presets.recommended.arguments = {}
    """
    (tmp_path / "own.toml").write_text(table)
    found = listed(["--models", str(tmp_path / "own.toml"), "--external-env", str(tmp_path)], capsys)
    assert "pip install -U diffusers" in found["old"] and "no-such_package" in found["old"]
    if importlib.util.find_spec("torchvision") is None:  # one that fits the torch that is here
        minor = int(torch.__version__.split(".")[1])
        assert f"torchvision~=0.{minor + 15}.0" in found["old"]
    assert f"dyneval generate --setup bagel --external-env {tmp_path}" in found["bagel"]
    assert "export OPENAI_API_KEY=..." in found["gpt-image-1-5"]
    assert found["sd1-5"].endswith("yes")
    assert "1*" in found["krea-2"] and "1*" in found["old"]
    assert "*" not in found["sd1-5"] + found["demo-painter"]


def test_a_package_that_is_missing_is_named(studio):
    assert studio.model(packages=["json", "no.such_package"]).missing_packages() == ["no-such_package"]
