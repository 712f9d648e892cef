"""The commands of gendb.py on a large GenDB: CPU time, wall time and the peak memory of each, in its own process.

    python benchmarks/gendb.py --pairs 500000 --side 32 --only stats,check

The GenDB is made first: records as Step 2 writes them, 36 models and 42 categories, and images of smooth noise, a
thousand different ones that are linked to their names: every image is there many times, and a check reads from the page
cache. Baseline: one pass of `json` over the records that counts models and categories.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, Cost, Flags, Results, alone, run_command, timed
from PIL import Image

from dyneval.generation import allocation, catalogue
from dyneval.generation.model import BuildOptions
from dyneval.hashing import fingerprint
from dyneval.records import PairRecord, pair_id, prompt_id

INDEX = "stats, index made on the way"
DIFFERENT = 1000
CATEGORIES = [f"category_{number}" for number in range(42)]
SENT = "a photograph of a cat on a red chair beside a window, sharp focus, intricate, cinematic light, 35 mm"


def make_gendb(folder: Path, pairs: int, side: int) -> None:
    """Write records and images."""
    originals = folder / "originals"
    originals.mkdir(parents=True)
    random = np.random.default_rng(0)
    hashes = []
    for number in range(DIFFERENT):
        noise = random.normal(128, 30, (side // 4, side // 4, 3)).clip(0, 255).astype("uint8")
        path = originals / f"{number}.png"
        Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(path, compress_level=1)
        hashes.append(hashlib.sha256(path.read_bytes()).hexdigest())
    models = catalogue.members(catalogue.load())
    settings = {spec.slug: spec.settings(BuildOptions()) for spec in models}
    more = {
        "prompt_sent": SENT,
        "seconds": 1.25,
        "safety": None,
        "sidecars": [],
        "dtype": "bfloat16",
        "revision": "c0" * 20,
    }
    versions = {"versions": {"python": "3.11", "diffusers": "0.42.1", "torch": "2.13.0"}}
    for spec in models:
        (folder / spec.slug).mkdir()
    with (folder / "metadata.jsonl").open("w") as file:
        for number in range(pairs):
            spec, key = models[number % len(models)], prompt_id(f"prompt {number}")
            record = PairRecord(
                file_name=f"{spec.slug}/{key}-{spec.slug}.png",
                pair_id=pair_id(key, spec.slug),
                prompt_id=key,
                prompt=SENT,
                tier=spec.tier,
                categories=sorted({CATEGORIES[number % 42], CATEGORIES[number // 42 % 42]}),
                generation_model=spec.slug,
                seed=allocation.image_seed(key, spec.slug, 0),
                width=side,
                height=side,
                settings={
                    **settings[spec.slug],
                    **versions,
                    **more,
                    "fingerprint": fingerprint(settings[spec.slug]),
                },
                sha256=hashes[number % DIFFERENT],
            )
            file.write(json.dumps(record.to_dict()) + "\n")
            os.link(originals / f"{number % DIFFERENT}.png", folder / record.file_name)


def count_plainly(metadata: Path) -> Cost:
    """The baseline: count models and categories with `json`, line by line."""
    counts: Counter[str] = Counter()
    with timed() as usage, metadata.open() as file:
        for line in file:
            row = json.loads(line)
            counts.update([row["generation_model"], *row["categories"]])
    return usage


def main() -> None:
    """Make a GenDB, run the commands on it, print a row for each."""
    flags = Flags(__doc__, repeat=1)
    flags.add_argument("--pairs", type=int, default=500_000, smoke=200)
    flags.add_argument("--side", type=int, default=32, help="pixels a side (default 32)")
    flags.add_argument("--only", type=lambda text: text.split(","), help="only these commands, by name")
    arguments = flags.parse_args()
    results = Results(arguments)
    results.table({"command": "", "pairs": ",", "CPU s": ".1f", "wall s": ".1f", "peak MiB": ",.0f"})
    with tempfile.TemporaryDirectory() as name:
        gendb, output = Path(name, "gendb"), Path(name, "out")
        output.mkdir()
        make_gendb(gendb, arguments.pairs, arguments.side)
        commands: dict[str, list[Any]] = {
            "stats": ["stats", gendb, "--json"],
            "duplicates": ["duplicates", gendb],
            "filter": [
                "filter",
                gendb,
                output / "part",
                "--model",
                "sdxl",
                "--model",
                "sana",
                "--where",
                "width >= 32",
            ],
            "contact-sheet": ["contact-sheet", gendb, output / "sheet.png"],
            "check": ["check", gendb],
            "to-mapping": ["to-mapping", gendb, output / "mapping.json"],
            "parquet": ["parquet", gendb, output / "parquet"],
            "webdataset": ["webdataset", gendb, output / "tars"],
            "hub": ["hub", gendb, output / "hub"],
        }
        program = [sys.executable, ROOT / "image_gen_scripts" / "gendb.py"]
        plain = alone(count_plainly, gendb / "metadata.jsonl")
        results.row("json, baseline", arguments.pairs, plain.cpu, plain.wall, plain.peak)
        # The first command makes the index that all others find: it runs whatever --only says, and only once.
        first = run_command([*program, *commands["stats"]])
        results.row(INDEX, arguments.pairs, first.cpu, first.wall, first.peak)
        for what in arguments.only or commands:
            runs = []
            for number in range(arguments.repeat):
                runs.append(run_command([*program, *commands[what]]))
                if number + 1 < arguments.repeat:
                    # The next run must find no output either.
                    for made in output.iterdir():
                        made.rename(Path(name, f"{what}-{number}-{made.name}"))
            figures = [[run.cpu for run in runs], [run.wall for run in runs], [run.peak for run in runs]]
            results.row(what, arguments.pairs, *figures)
        sizes = [(gendb / file).stat().st_size / 1e6 for file in ("metadata.jsonl", ".index.parquet")]
    print("\nmetadata {:.0f} MB, index {:.0f} MB".format(*sizes))


if __name__ == "__main__":
    main()
