"""A GenDB as a dataset of the Hugging Face Hub: Parquet shards with the images inside, and a card."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dyneval
from dyneval.errors import GenerationError
from dyneval.files.atomic import atomic_write
from dyneval.generation import curating
from dyneval.generation.exporting import Counts, write_parquet
from dyneval.generation.index import Index, Selection
from dyneval.generation.model import ModelSpec

log = logging.getLogger(__name__)

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_dataset(
    folder: Path, output: Path, specs: Mapping[str, ModelSpec], selection: Selection, shard_bytes: int, name: str
) -> Counts:
    """Write `output`/data/train-*.parquet and `output`/README.md, which `datasets.load_dataset` reads.

    Args:
        folder: the GenDB.
        output: folder to write; may hold no Parquet files.
        specs: models by slug, for names and licences.
        selection: which pairs.
        shard_bytes: bytes of images a shard.
        name: title of the card.

    Raises:
        GenerationError: there are Parquet files, or a README.md, already.
    """
    if (output / "README.md").exists():
        raise GenerationError(f"{output / 'README.md'} is there already; name a new folder")
    counts = write_parquet(folder, output / "data", shard_bytes, selection)
    found = curating.statistics(Index(folder), selection)
    with atomic_write(output / "README.md") as file:
        file.write(card(found, counts, specs, name))
    return counts


def card(found: dict[str, Any], counts: Counts, specs: Mapping[str, ModelSpec], name: str) -> str:
    """The card of a dataset: front matter for the Hub, then what is in it, who drew it, and under which licences."""
    size = next((label for limit, label in _SIZES if found["pairs"] < limit), "n>1M")
    head = [
        "---",
        f"pretty_name: {_yaml(name)}",
        "license: other",
        "license_name: licences-of-the-models",
        "task_categories:\n- text-to-image\n- image-text-to-text",
        "tags:\n- dyneval\n- generated-images",
        f"size_categories:\n- {size}",
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet",
        "---",
    ]
    models = ["| model | tier | images | licence of the weights |", "|---|---|---|---|"]
    for row in found["models"]:
        spec = specs.get(row["generation_model"])
        shown, licence = (spec.name, spec.licence) if spec else (row["generation_model"], "unknown")
        models.append(f"| {_cell(shown)} | {row['tier'] or ''} | {row['pairs']} | {_cell(licence)} |")
    categories = ["| category | images |", "|---|---|"]
    categories += [f"| {_cell(row['category'])} | {row['pairs']} |" for row in found["categories"]]
    text = f"""
# {_cell(name)}

{counts.written} images that text-to-image models drew from {found["prompts"]} prompts, written by DynEval
{dyneval.__version__}. A row holds the image, its prompt, the prompt's tier and categories, the model, the seed, and in
`settings` (JSON) all that the image depends on: weights with their commit, arguments, versions of the libraries, the
prompt as it was sent. Every image was decoded and compared with its recorded SHA-256; {counts.rejected} pairs that were
not as recorded are left out.

The images were made by the models below and come under the licences of their weights.

"""
    return "\n".join(head) + "\n" + text.lstrip("\n") + "\n".join([*models, "", *categories]) + "\n"


def _yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
