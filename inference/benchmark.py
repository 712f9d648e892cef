"""Hold evaluators against human ratings of published benchmarks; the same as `dyneval benchmark`.

    python inference/benchmark.py --benchmark tifa --annotations human_annotations.json --scores scores.jsonl
    python inference/benchmark.py --list

The verb is in dyneval/cli/benchmark.py; this script is its name among those of the steps.
"""

from dyneval.cli.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
