"""The commands of gendb.py on a large GenDB: CPU time, wall time and the largest memory of each, in its own process.

    python benchmarks/gendb.py [--pairs 500000] [--side 32] [--only stats,check]

The GenDB is made first: records as Step 2 writes them, 36 models and 42 categories, and images of smooth noise, a
thousand different ones that are linked to their names: every image is there many times, and a check reads from the page
cache. Baseline: one pass of `json` over the records that counts models and categories. Prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dyneval.generation import allocation, catalogue
from dyneval.generation.model import BuildOptions
from dyneval.hashing import fingerprint
from dyneval.records import PairRecord, pair_id, prompt_id

GENDB = Path(__file__).parents[1] / "image_gen_scripts" / "gendb.py"
INDEX = "stats with index"
"""The first command, which makes the index that the others find."""
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


def commands(gendb: Path, output: Path) -> dict[str, list[Any]]:
    """What is measured, by name."""
    return {
        INDEX: ["stats", gendb, "--json"],
        "stats": ["stats", gendb, "--json"],
        "duplicates": ["duplicates", gendb],
        "filter": ["filter", gendb, output / "part", "--model", "sdxl", "--model", "sana", "--where", "width >= 32"],
        "contact-sheet": ["contact-sheet", gendb, output / "sheet.png"],
        "check": ["check", gendb],
        "to-mapping": ["to-mapping", gendb, output / "mapping.json"],
        "parquet": ["parquet", gendb, output / "parquet"],
        "webdataset": ["webdataset", gendb, output / "tars"],
        "hub": ["hub", gendb, output / "hub"],
    }


def measured(command: list[str]) -> dict[str, float]:
    """Run a command; seconds of wall and CPU time, and MiB at its largest."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    wall, cpu = time.perf_counter() - begun, usage.ru_utime + usage.ru_stime
    return {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "peak_mib": round(usage.ru_maxrss / 1024)}


def baseline(metadata: Path) -> dict[str, float]:
    """Count models and categories with `json`, line by line."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    counts: Counter[str] = Counter()
    with metadata.open() as file:
        for line in file:
            row = json.loads(line)
            counts.update([row["generation_model"], *row["categories"]])
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)}


def main() -> None:
    """Make a GenDB, run the commands on it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=500_000)
    parser.add_argument("--side", type=int, default=32, help="pixels a side (default 32)")
    parser.add_argument("--only", type=lambda text: text.split(","), help="only these commands, by name")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        gendb, output = Path(name, "gendb"), Path(name, "out")
        output.mkdir()
        make_gendb(gendb, args.pairs, args.side)
        size = (gendb / "metadata.jsonl").stat().st_size
        figures = {
            "pairs": args.pairs,
            "metadata_mb": round(size / 1e6),
            "json, baseline": baseline(gendb / "metadata.jsonl"),
        }
        for what, command in commands(gendb, output).items():
            is_asked = args.only is None or what in args.only
            if is_asked or what == INDEX:
                found = measured([sys.executable, str(GENDB), *map(str, command)])
            if is_asked:
                figures[what] = found
                print(what, found, file=sys.stderr)
        figures["index_mb"] = round((gendb / ".index.parquet").stat().st_size / 1e6)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
