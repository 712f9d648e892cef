"""Step 5b: agreement with human ratings, leaderboards over T2I models, and the reports that show both.

`correlation`, `pairwise`, `bootstrap`, `significance` hold the statistics; `benchmarks` reads the files of seventeen
published benchmarks; `comparison` sets evaluators beside each other; `leaderboard` and `tiers` rank T2I models;
`report` draws.
"""
