"""Training. `train_qwen` is the command, `run` the order of a run, `trainer` the loop, and the rest its parts."""
