"""Step 5b: agreement with human ratings, leaderboards over T2I models, and the reports that show both.

`benchmarks` reads the files of seventeen published benchmarks, `scores` those of evaluators; `spelling` and `matching`
find the image that a score belongs to. `correlation`, `pairwise`, `bootstrap` and `significance` hold the statistics,
`comparison` puts evaluators beside each other. `scored`, `leaderboard`, `head_to_head` and `tiers` rank T2I models.
`regression` and `reliability` compare two runs. `tables` and `report` show the results, and each `run_*` module is one
verb without its flags: it reads files, computes, and writes. Scores are 1-5 everywhere; 0-1 is called normalised.
"""
