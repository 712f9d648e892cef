"""Parts of a run and their merging, with the tiny student."""

import json

import pytest

from dyneval.cli import main
from dyneval.cli.merge import merge_scores
from dyneval.errors import DataFileError
from dyneval.files.jsonl import read_jsonl
from dyneval.files.parts import Shard
from dyneval.scorer.run import score_file


@pytest.fixture
def board(scorer, pictures, tmp_path):
    """Six pairs of three prompts and an unusable row: board.run(shard) scores, board.output is the whole's file."""

    class Board:
        metadata, output = tmp_path / "metadata.jsonl", tmp_path / "out" / "scores.jsonl"

        def run(self, shard=None):
            return score_file(lambda: scorer, self.metadata, self.output, pictures, shard=shard)

    rows = [{"pair_id": f"p{n}", "file_name": f"{n}.png", "prompt": f"circle {n % 3}"} for n in range(6)]
    Board.metadata.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "no image"}]))
    return Board()


def by_pair(path):
    return {row["pair_id"]: {**row, "seconds": 0} for row in read_jsonl(path)}


def test_parts_cover_all_once_and_merge_to_the_whole(board, tmp_path):
    counts = [board.run(Shard(index, 2)) for index in (1, 2)]
    assert sum(one.made for one in counts) == 6 and [one.rejected for one in counts] == [1, 0]
    merged = merge_scores(board.output, board.metadata)
    assert (merged.added, merged.in_file, merged.rejected) == (6, 6, 1) and not merged.missing_pairs
    assert not merged.complete, "one row could not be scored"
    assert merge_scores(board.output, board.metadata).added == 0
    kept = by_pair(board.output)
    prompts = [
        {row["prompt"] for row in read_jsonl(path)} for path in board.output.parent.glob("shards/*/scores.jsonl")
    ]
    assert not set.intersection(*prompts) if len(prompts) == 2 else len(prompts) == 1
    again = board.run()
    assert (again.made, again.there_before) == (0, 6), "what is merged is finished"
    assert by_pair(board.output) == kept


def test_what_is_missing_is_said(board, capsys):
    index = next(index for index in (1, 2, 3) if 0 < board.run(Shard(index, 3)).made < 6)
    assert main(["merge", str(board.output), "--metadata", str(board.metadata)]) == 1
    said = capsys.readouterr().out
    others = [f"{other}-of-3" for other in range(index + 1, 4)]
    assert "pairs are not scored: p" in said and all(other in said for other in others)


def test_records_that_differ_are_not_mixed(board):
    board.run(Shard(1, 1))
    merge_scores(board.output)
    part = board.output.parent / "shards" / "1-of-1" / "scores.jsonl"
    rows = list(read_jsonl(part))
    part.write_text("".join(json.dumps({**row, "key": "0" * 64}) + "\n" for row in rows))
    with pytest.raises(DataFileError, match="has another record of p0"):
        merge_scores(board.output)
    (part.parent.parent / "1-of-2").mkdir()
    with pytest.raises(DataFileError, match="different divisions"):
        merge_scores(board.output)


def test_nothing_to_merge(tmp_path):
    with pytest.raises(DataFileError, match="no parts"):
        merge_scores(tmp_path / "scores.jsonl")
