"""`dyneval score --server`: the command as a client of the real server."""

import json

from PIL import Image

from dyneval.cli import score
from dyneval.files.jsonl import read_jsonl


def test_a_folder_is_scored_by_a_server_and_only_once(serve_in_process, student, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("cat", "dog"):
        Image.new("RGB", (40, 40), (200, 60, 40)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"a {name}")
    output = tmp_path / "scores.jsonl"
    with serve_in_process(student, tmp_path / "log") as (address, _):
        command = [str(folder), "--captions", "txt", "--server", address]
        for made in (2, 0):
            assert score.main([*command, "--output", str(output)], "dyneval score") == 0
            assert json.loads(output.with_suffix(".summary.json").read_text())["scored"] == made
        capsys.readouterr()
        assert score.main([str(folder / "cat.png"), "--prompt", "a cat", "--server", address]) == 0
        printed = json.loads(capsys.readouterr().out)
    rows = {row["prompt"]: row for row in read_jsonl(output)}
    assert set(rows) == {"a cat", "a dog"} and rows["a cat"]["key"] == printed["key"]
    assert rows["a cat"]["overall"] == printed["overall"]
