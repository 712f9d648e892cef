"""What a run of the five steps costs: GPU hours, wall time, disk and tokens, from stated assumptions."""
