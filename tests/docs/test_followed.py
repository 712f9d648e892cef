"""The pages on how to extend DynEval, followed to the letter: their files written, their commands run, in order."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import processes

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SHOWS = {
    "image-model.md": ["made 2", "128"],
    "filter.md": ["a lighthouse on a cliff above a stormy sea\n", "a wooden boat in a harbour at dawn\n"],
    "engine.md": ["5 replies, the last about", "evaluation:", "overall"],
    "benchmark.md": [".8857", "3 images, 1 left out: "],
}
"""What following a page shows, beside that no command fails."""


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    with processes.for_shells(tmp_path_factory.mktemp("commands")) as folder:
        yield folder


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs" / "extend").glob("*.md")))
def test_a_page_holds_when_it_is_followed(page, commands, tmp_path):
    environment = os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(tmp_path / "home"),
    }
    commands = []
    for kind, name, text in BLOCK.findall((ROOT / "docs" / "extend" / page).read_text()):
        if name:
            (tmp_path / name).write_text(text)
        elif kind == "bash":
            commands.append(text)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(commands)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not [text for text in SHOWS[page] if text not in said], said
