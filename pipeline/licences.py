"""Lists the licences of the packages of the environment that runs it, as a Markdown table.

    $ ENVIRONMENT/bin/python pipeline/licences.py

`release.sh` runs it in the environment of the built wheel, so it uses the standard library only. It exits with status
1 where a package names no licence, or one that nobody has read yet: read it, then add it to `KNOWN`. Without this, a
release could come to depend on a package that its users may not use.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions

KNOWN = re.compile(
    r"apache|bsd|\bmit\b|\bisc\b|\bmpl|mozilla|\bpsf|python software|unlicense|hpnd|cc0|zlib|public domain|lgpl",
    re.IGNORECASE,
)
"""Licences that were read: a package under them that is only installed beside ours may be used by all."""
BARRED = re.compile(r"\ba?gpl|affero|non-?commercial|proprietary", re.IGNORECASE)
"""Licences that are reported even beside a known one, as in `MIT AND GPL-3.0-only`."""
NVIDIA = ("nvidia-", "cuda-")
"""Names of the CUDA libraries that torch's build for GPUs brings, under NVIDIA's own terms (CUDA EULA)."""


def licence(package: Distribution) -> str:
    """Return the licence that a package names: the expression, else its classifiers, else the field's first line."""
    # Newest metadata first. The old field may hold a licence's whole text, of which the first line is the name.
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line.startswith("License ::")
    ]
    named = ", ".join(one for one in classifiers if one != "OSI Approved")
    return named or (metadata.get("License") or "").strip().partition("\n")[0]


def is_known(text: str) -> bool:
    """True where a licence is among those that were read, and none that is barred stands beside it."""
    return bool(KNOWN.search(text)) and not BARRED.search(text)


def main() -> int:
    """Print the table, and on standard error the licences that nobody has read; return 1 where there are any."""
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
