"""A GenDB as a dataset of the Hugging Face Hub: Parquet shards with the images inside, and a card.

The card tells who drew the images and under which licences they come; without it a dataset may not be passed on. A
dataset that was written and could not be uploaded is found again by what it was made from, so the same command goes on.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import dyneval
from dyneval.errors import GenerationError
from dyneval.files.atomic import atomic_write, read_json, write_summary
from dyneval.generation.curating import NO_CATEGORY, copy_selection
from dyneval.generation.exporting import ExportCounts, read_records, write_parquet
from dyneval.generation.index import Index, Selection
from dyneval.generation.model import ModelSpec
from dyneval.hashing import fingerprint
from dyneval.records import PairRecord, RunSummary

log = logging.getLogger(__name__)

Form = Literal["parquet", "imagefolder"]
# Says which files are the data: summary.json lies in the same folder.
_SHARDS = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet"
# The Hub's own names of sizes, by the number of rows that each ends below.
_SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
}


@dataclass(slots=True)
class DatasetContents:
    """What a dataset holds, counted as it is written: every pair passes by once, and no record is kept."""

    prompts: set[str] = field(default_factory=set)
    models: Counter[str] = field(default_factory=Counter)
    tiers: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    categories: Counter[str] = field(default_factory=Counter)

    def add(self, record: PairRecord) -> None:
        """Count a pair."""
        self.prompts.add(record.prompt_id)
        self.models[record.generation_model] += 1
        self.categories.update(record.categories or (NO_CATEGORY,))
        if record.tier is not None:
            self.tiers[record.generation_model].add(record.tier)


def write_dataset(
    folder: Path,
    output: Path,
    specs: Mapping[str, ModelSpec],
    selection: Selection,
    shard_bytes: int,
    name: str,
    form: Form = "parquet",
) -> ExportCounts:
    """Write `output`/data/train-*.parquet and `output`/README.md, which `datasets.load_dataset` reads.

    `output`/summary.json says what the dataset was made from; where that is the same again, it is left as it is.

    Args:
        folder: the GenDB.
        output: folder to write; may hold no Parquet files of something else.
        specs: models by slug, for names and licences.
        selection: which pairs.
        shard_bytes: bytes of images a shard.
        name: title of the card.
        form: "imagefolder": metadata.jsonl and links to the images in place of the shards; images are not checked.

    Raises:
        GenerationError: there are Parquet files, or a README.md, of something else.
    """
    metadata = folder / "metadata.jsonl"
    status = metadata.stat() if metadata.is_file() else None  # if it is missing, opening the index says so
    # All that the dataset depends on. Size and time are taken for the content of metadata.jsonl: it may have gigabytes.
    source = [metadata.resolve(), status and [status.st_size, status.st_mtime_ns]]
    licences = {slug: [spec.name, spec.licence] for slug, spec in specs.items()}
    title = name if form == "parquet" else f"{name} {form}"
    made_from = fingerprint([dyneval.__version__, source, asdict(selection), shard_bytes, title, licences])
    finished = output / "summary.json"
    if (output / "README.md").exists():
        found = read_json(finished) if finished.exists() else None
        if isinstance(found, dict) and found.get("made_from") == made_from:
            log.info("%s: exists already and was made from the same; nothing is written", output)
            return ExportCounts(**found["counts"])
        raise GenerationError(f"{output / 'README.md'} exists already and belongs to something else; name a new folder")
    contents = DatasetContents()
    if form == "parquet":
        counts = write_parquet(folder, output / "data", shard_bytes, selection, contents.add)
    else:
        written, lost = copy_selection(Index(folder), selection, output)
        counts = ExportCounts(written=written, rejected=len(lost))
        for record in read_records(output, ExportCounts(), Selection()):
            contents.add(record)
    run = RunSummary(made=counts.written, rejected=counts.rejected)
    write_summary(finished, run, {"made_from": made_from, "counts": asdict(counts)})
    with atomic_write(output / "README.md") as file:  # last: with it the dataset is whole
        file.write(card(contents, counts, specs, name, form))
    return counts


def card(
    contents: DatasetContents, counts: ExportCounts, specs: Mapping[str, ModelSpec], name: str, form: Form = "parquet"
) -> str:
    """Return the card of a dataset: front matter for the Hub, what is in it, who drew it, under which licences.

    Args:
        contents: what was counted while the dataset was written.
        counts: pairs that are in it, and pairs that were left out.
        specs: models by slug, for names and licences; a model that is missing here has an unknown licence.
        name: title.
        form: "parquet" or "imagefolder".
    """
    size = next((label for limit, label in _SIZES.items() if counts.written < limit), "10M<n<100M")
    head = [
        "---",
        f"pretty_name: {json.dumps(name, ensure_ascii=False)}",  # JSON is YAML
        "license: other",
        "license_name: licences-of-the-models",
        "task_categories:\n- text-to-image\n- image-text-to-text",
        "tags:\n- dyneval\n- generated-images",
        f"size_categories:\n- {size}",
        *((_SHARDS,) if form == "parquet" else ()),
        "---",
    ]
    checked = " Every image was decoded and compared with its recorded SHA-256;" if form == "parquet" else ""
    models = ["| model | tier | images | licence of the weights |", "|---|---|---|---|"]
    by_tier = [(sorted(contents.tiers[model]), model, count) for model, count in contents.models.items()]
    for tiers, model, count in sorted(by_tier, key=lambda row: (not row[0], row)):  # those without a tier last
        spec = specs.get(model)
        shown, licence = (spec.name, spec.licence or "unknown") if spec else (model, "unknown")
        models.append(f"| {_cell(shown)} | {', '.join(map(str, tiers))} | {count} | {_cell(licence)} |")
    categories = ["| category | images |", "|---|---|"]
    categories += [f"| {_cell(category)} | {count} |" for category, count in sorted(contents.categories.items())]
    text = f"""
# {_cell(name)}

{counts.written} images that text-to-image models drew from {len(contents.prompts)} prompts, written by DynEval
{dyneval.__version__}. A row holds the image, its prompt, the prompt's tier and categories, the model, the seed, and in
`settings` (JSON) all that the image depends on: weights with their commit, arguments, versions of the libraries, the
prompt as it was sent.{checked} {counts.rejected} pairs that were not as recorded are left out.

The images were made by the models below and come under the licences of their weights.

"""
    return "\n".join(head) + "\n" + text.lstrip("\n") + "\n".join([*models, "", *categories]) + "\n"


def _cell(text: str) -> str:
    """Return text that stays in its cell of a Markdown table: names and categories may come from anyone."""
    return " ".join(text.split()).replace("|", "\\|")
