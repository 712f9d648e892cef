"""Fuzz one reader with atheris, guided by the code that is reached.

python -m tests.fuzz.fuzz TARGET [arguments of libFuzzer]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dyneval", "qwenvl", "json_repair"]):
    from . import targets


def main() -> None:
    """Fuzz until libFuzzer ends; an input that breaks the reader is written to crash-* in the working folder."""
    name, *flags = sys.argv[1:] or ["?"]
    if name not in targets.TARGETS:
        sys.exit(f"fuzz: {name} is none of the targets {', '.join(targets.TARGETS)}")
    with tempfile.TemporaryDirectory(prefix="corpus-") as corpus:
        for number, (target, data) in enumerate(targets.all_cases()):
            if target == name:
                (Path(corpus) / str(number)).write_bytes(data)
        limits = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=20000"]
        atheris.Setup([sys.argv[0], *limits, *flags, corpus], targets.TARGETS[name].run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
