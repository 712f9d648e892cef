"""The table and the 36 scripts say the same, and every script does what it says."""

import csv
import importlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dyneval.errors import GenerationError
from dyneval.generation import catalogue
from dyneval.generation.families import external, hosted
from dyneval.generation.model import BuildOptions
from dyneval.hashing import fingerprint

from . import test_diffusers_family as diffusers_tests

SCRIPTS = Path(__file__).parents[2] / "image_gen_scripts"
ROWS = catalogue.table_rows(SCRIPTS)
SPECS = {entry.slug: entry.load() for entry in catalogue.read_table(SCRIPTS)}
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "published_leaderboard_dyneval_1k.csv"


def test_the_table_is_what_the_scripts_say():
    described = [catalogue.describe(SPECS[row["slug"]], row["checked"]) for row in ROWS]
    assert described == ROWS
    scripts = {path.stem for path in SCRIPTS.glob("*.py")} - {"generate", "gendb"}
    assert scripts == {slug.replace("-", "_") for slug in SPECS}
    assert Counter(row["family"] for row in ROWS) == {"diffusers": 25, "transformers": 2, "hosted": 2, "external": 7}
    assert Counter(row["tier"] for row in ROWS) == {"1": 7, "2": 19, "3": 10}


def test_the_table_says_how_far_each_model_was_run():
    ran = {slug for slug, _ in diffusers_tests.RUN} | {"janus-pro", "emu3"}
    for row in ROWS:
        spec = SPECS[row["slug"]]
        if isinstance(spec, hosted.HostedSpec):
            assert row["checked"] == "run against a stand-in server"
        elif isinstance(spec, external.ExternalSpec):
            assert row["checked"] == "not run"
        else:
            assert row["checked"] == ("run tiny" if row["slug"] in ran else "signature")


def repeats_recommended(spec):
    paper, recommended = ({**spec.settings(BuildOptions(preset=name)), "preset": ""} for name in spec.presets)
    return paper == recommended


@pytest.mark.parametrize("slug", SPECS)
def test_a_script_is_short_and_has_both_presets_and_its_variants(slug):
    spec = SPECS[slug]
    lines = catalogue.script_path(SCRIPTS, slug).read_text().splitlines()
    assert 10 <= len(lines) <= 40
    assert set(spec.presets) == {"recommended", "paper"}
    assert spec.default_preset == "recommended"
    assert spec.presets["paper"].note
    same = repeats_recommended(spec)
    assert same or spec.presets["recommended"].note, "both presets say how the published script differs"
    marks = {
        fingerprint(spec.settings(BuildOptions(preset=preset, variant=variant)))
        for preset in spec.presets
        for variant in spec.variants
    }
    assert len(marks) == 2 * len(spec.variants)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published leaderboard is not beside this checkout")
def test_tiers_are_the_published_ones():
    with PUBLISHED.open(newline="") as file:
        published = Counter(row["tier"].strip()[-1] for row in csv.DictReader(file))
    assert published == Counter(row["tier"] for row in ROWS)


def test_listing_needs_nothing_but_the_table():
    done = subprocess.run([sys.executable, SCRIPTS / "generate.py", "--list"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(slug in done.stdout for slug in (*SPECS, "demo-painter"))
    assert "needs an API key" not in done.stderr


def test_importing_the_catalogue_loads_no_heavy_library():
    code = (
        "import sys; from pathlib import Path; from dyneval.generation import catalogue; "
        f"[entry.load() for entry in catalogue.read_table(Path({str(SCRIPTS)!r}))]; "
        "print({'torch', 'diffusers', 'transformers', 'openai', 'google.genai', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_a_script_of_ones_own_runs_without_a_table(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        Path(__file__).with_name("stand_in.py").read_text()
        + "\nfrom dyneval.generation.cli import run_script\n"
        + "if __name__ == '__main__':\n    raise SystemExit(run_script(MODEL, __file__))\n"
    )
    (tmp_path / "tier-1-prompts.txt").write_text("a cat\na dog\n")
    command = [sys.executable, script, "--prompts", tmp_path / "tier-1-prompts.txt", "--output", tmp_path / "gendb"]
    done = subprocess.run(
        [*command, "--devices", "cpu", "--set", "size=48", "--contact-sheet"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "gendb" / "stand-in").glob("*.png"))) == 2
    assert (tmp_path / "gendb" / "contact_sheet.png").exists()


def test_models_are_chosen_by_slug_tier_and_family():
    entries = [*catalogue.read_table(SCRIPTS), *catalogue.demo_entries()]
    assert len(catalogue.choose(entries)) == 36
    assert len(catalogue.choose(entries, tier=1)) == 7
    assert {entry.slug for entry in catalogue.choose(entries, tier=3, family="demo")} == {"demo-doodler"}
    with pytest.raises(GenerationError, match="no model 'sdxl2'"):
        catalogue.choose(entries, slugs=["sdxl2"])
    mixed = catalogue.choose(entries, slugs=["sdxl", "demo-doodler"])
    with pytest.raises(GenerationError, match="run them apart"):
        catalogue.roster(entries, mixed)


def test_the_share_of_a_model_does_not_depend_on_which_others_run():
    entries = [*catalogue.read_table(SCRIPTS), *catalogue.demo_entries()]
    one = catalogue.choose(entries, slugs=["sdxl"])
    assert {entry.slug for entry in catalogue.roster(entries, one)} == set(SPECS)


def test_a_package_that_is_missing_is_named():
    spec = SPECS["omnigen"]
    missing = importlib.util.find_spec("torchvision") is None
    assert spec.missing_packages() == (["torchvision"] if missing else [])
