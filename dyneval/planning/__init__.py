"""What a run of the five steps costs: GPU hours, wall time, memory, disk and tokens, from stated assumptions.

`assumptions` holds the figures, `plan` the arithmetic, `measured` reads better figures out of the summaries of runs.
"""
