"""Lists the licences of the packages of the environment that runs it, as a Markdown table; standard library only.

    ENVIRONMENT/bin/python pipeline/licences.py

Exits with status 1 where a package says no licence, or one that was not looked at yet: add it to `KNOWN` after reading.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions

KNOWN = re.compile(
    r"apache|bsd|\bmit\b|\bisc\b|\bmpl|mozilla|\bpsf|python software|unlicense|hpnd|cc0|zlib|public domain|lgpl",
    re.IGNORECASE,
)
"""Licences under which a package that is only installed beside ours may be used by all."""
BARRED = re.compile(r"\ba?gpl|affero|non-?commercial|proprietary", re.IGNORECASE)
"""What is looked at even where another licence stands beside it, as in `MIT AND GPL-3.0-only`."""
NVIDIA = ("nvidia-", "cuda-")
"""Names of the CUDA libraries that torch's build for GPUs brings, under NVIDIA's own terms (CUDA EULA)."""


def licence(package: Distribution) -> str:
    """What a package says of its licence: the expression, else its classifiers, else the field's first line."""
    told = package.metadata
    if expression := told.get("License-Expression"):
        return str(expression)
    classifiers = [
        line.rpartition(" :: ")[2] for line in told.get_all("Classifier", []) if line.startswith("License ::")
    ]
    named = ", ".join(one for one in classifiers if one != "OSI Approved")
    return named or (told.get("License") or "").strip().partition("\n")[0]


def is_known(text: str) -> bool:
    """Whether a licence is one of those that were looked at, and nothing beside it."""
    return bool(KNOWN.search(text)) and not BARRED.search(text)


def main() -> int:
    """Print the table; returns the exit status."""
    found = sorted((str(one.metadata["Name"]), one.version, licence(one)) for one in distributions())
    print("| package | version | licence |\n|---|---|---|")
    print("\n".join(f"| {name} | {version} | {text or 'none said'} |" for name, version, text in found))
    wrong = [
        f"{name}: {text or 'says none'}" for name, _, text in found if not (is_known(text) or name.startswith(NVIDIA))
    ]
    print(f"\n{len(found)} packages; {len(wrong)} to be looked at" + "".join(f"\n- {one}" for one in wrong))
    for one in wrong:
        sys.stderr.write(f"licence to be looked at: {one}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
