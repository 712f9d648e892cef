"""Step 4: fine-tuning of Qwen3-VL on DynEvalInstruct in two stages, with the arguments of Qwen's fine-tuning folder.

`data` reads and batches samples, `train` trains, `preflight` checks machine, model and data before GPU hours are spent.
"""
