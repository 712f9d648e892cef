"""Code of the user's own, `module:name`: loaded in one way by every verb that takes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# The installed command: `python -m` would put the current folder before everything else.
DYNEVAL = Path(sys.executable).with_name("dyneval")
PROMPTS = "a red lighthouse above a stormy sea\n"
TAKES = [
    ["prompts", "--input", "p.txt", "--output", "o", "--filter", "{}"],
    ["annotate", "--metadata", "m.jsonl", "--output", "o", "--engine", "{}"],
    ["score", "p.png", "--prompt", "x", "--checkpoint", "c", "--engine", "{}"],
    ["generate", "--models", "tables/own.toml", "--list"],
]


@pytest.fixture
def here(tmp_path):
    for name, text in {
        "p.txt": PROMPTS,
        "broken.py": "raise RuntimeError('no licence\\nfound')\n",
        "leaving.py": "import sys; sys.exit(3)\n",
        "empty.py": "",
        # Called like a library that nothing imports before.
        "colorsys.py": "raise SystemExit('the file of the user hides a library')\n",
        "good.py": "import colorsys\n\n\ndef keep(prompts):\n    return [True] * len(prompts)\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def dyneval(*arguments, folder):
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [DYNEVAL, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("words", TAKES, ids=[words[0] for words in TAKES])
def test_what_is_wrong_with_it_is_one_line(here, words):
    for name, said in (
        ("broken:Mine", ": broken cannot be imported (RuntimeError: no licence)"),
        ("leaving:Mine", ": leaving cannot be imported (SystemExit: 3)"),
        ("nowhere:Mine", ": nowhere cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        ("empty:Mine", ": empty has no 'Mine'; expected module:name"),
    ):
        (here / "tables").mkdir(exist_ok=True)
        (here / "tables" / "own.toml").write_text(f'[mine]\nclass = "{name}"\n')
        done = dyneval(*(word.format(name) for word in words), folder=here)
        assert done.returncode in (1, 2) and not done.stdout
        assert done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
        assert name in done.stderr


def test_a_file_that_is_called_like_a_library_hides_none(here):
    done = dyneval("prompts", "--input", "p.txt", "--output", "o", "--filter", "good:keep", folder=here)
    assert done.returncode == 0, done.stderr
    assert (here / "o" / "prompts.parquet").is_file()
