"""Scoring over HTTP, with micro-batching, bounded memory and a page to try it on; and a page on which people rate.

    $ dyneval serve --checkpoint output/dyneval_4b_stage2_iqa --port 8000
    $ dyneval serve --devices all --rewards
    $ dyneval serve --rate gendb/metadata.jsonl --ratings mine.csv

A request passes `connections` (time and number), `guard` (who, how much), `scoring_routes` or `rewards` (its pairs),
`decoding` (its images, in other processes), `batcher` (the queue) and `judges` (the students). POST /v1/score,
/v1/score/stream and /v1/score/batch score; GET /v1/model, /healthz, /readyz and /metrics tell; /openapi.json describes
them all and / is the page. Trainers have routes of their own, see `rewards`. Needs the extra `serve`.
"""
