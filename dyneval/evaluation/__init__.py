"""Step 5b: agreement with human ratings, leaderboards over T2I models, and the reports that show both.

`correlation`, `pairwise`, `bootstrap`, `significance` hold the statistics; `benchmarks` reads the files of seventeen
published benchmarks; `spelling` and `matching` join scores with images; `comparison` sets evaluators beside each other;
`leaderboard`, `head_to_head` and `tiers` rank T2I models; `regression` and `reliability` compare runs; `report` draws.
"""
