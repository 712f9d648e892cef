"""Overall score of every annotated pair: alpha * IQA + beta * T2IA, each 1-5; the same as `dyneval overall`.

$ python "Distill Annotations/compute_overall_scores.py" --metadata gendb/metadata.jsonl \
        --annotations annotations --output annotations/overall_scores.csv
"""

from dyneval.cli.overall import main

if __name__ == "__main__":
    raise SystemExit(main())
