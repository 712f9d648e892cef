"""Rank text-to-image models by DynEval's scores; the same as `dyneval leaderboard`.

    python inference/leaderboard.py scores.jsonl --metadata gendb/metadata.jsonl --images gendb --output board/

The verb is in dyneval/cli/leaderboard.py; this script is its name among those of the steps.
"""

from dyneval.cli.leaderboard import main

if __name__ == "__main__":
    raise SystemExit(main())
