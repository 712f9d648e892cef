"""The tools as a user runs them; a packed file trains like the samples it holds."""

import json
import sys
from pathlib import Path

from qwenvl.data import DatasetSource
from qwenvl.data.dataset import InstructDataset
from tests import processes

TOOLS = Path(__file__).parents[2] / "Qwen3-VL" / "qwen-vl-finetune" / "tools"


def run(tool, *arguments):
    command = [sys.executable, TOOLS / tool, *arguments]
    return processes.run([str(part) for part in command], capture_output=True, text=True)


def test_check_image_lists_what_cannot_be_read(instruct_data):
    common = ["--annotation", instruct_data.t2ia, "--data", instruct_data.root, "--workers", 2]
    good = run("check_image.py", *common)
    assert (good.returncode, good.stdout) == (0, "16 entries checked, 0 with unreadable images\n")
    (instruct_data.root / "images" / "3.png").write_bytes(b"not an image")
    bad = run("check_image.py", *common)
    assert bad.returncode == 1
    first, last = bad.stdout.splitlines()
    assert "t2ia.json, sample 6 (3-evaluation)" in first and "not an image file" in first
    assert last == "16 entries checked, 1 with unreadable images"


def test_pack_data_writes_bins_that_train_like_samples(instruct_data, tiny_checkpoint, tmp_path, processor):
    rows = json.loads(instruct_data.t2ia.read_text())
    rows[0]["image"] = "images/none.png"
    instruct_data.t2ia.write_text(json.dumps(rows))
    output = tmp_path / "packed.json"
    common = ["--annotation", instruct_data.t2ia, "--data", instruct_data.root, "--output", output, "--workers", 1]
    done = run("pack_data.py", *common, "--model_name_or_path", tiny_checkpoint, "--model_max_length", 300)
    assert done.returncode == 1, done.stderr
    assert "samples=15, too_long=0, bad=1" in done.stdout
    assert "none.png: no such image file" in (tmp_path / "packed.rejects.jsonl").read_text()
    bins = json.loads(output.read_text())
    assert sorted(one["id"] for members in bins for one in members) == sorted(one["id"] for one in rows[1:])
    source = DatasetSource(name="packed", annotation=output, data=instruct_data.root)
    data = InstructDataset([source], processor, model_max_length=300, cache=tmp_path / "cache")
    assert [len(data[index]) for index in range(len(data))] == [len(members) for members in bins]
    assert max(data.lengths) <= 300
