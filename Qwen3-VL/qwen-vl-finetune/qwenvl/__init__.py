"""Step 4: curriculum fine-tuning of Qwen3-VL on DynEvalInstruct, argument-compatible with Qwen's fine-tuning folder."""
