"""Rank text-to-image models by DynEval's scores; the same as `dyneval leaderboard`.

python inference/leaderboard.py scores.jsonl --metadata gendb/metadata.jsonl --images gendb --output board/
"""

from dyneval.cli.leaderboard import main

if __name__ == "__main__":
    raise SystemExit(main())
