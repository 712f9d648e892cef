"""Training: arguments, model set-up, loss on targets only, Trainer, checkpoints."""
