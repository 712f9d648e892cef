"""From teacher annotations to DynEvalInstruct: curation, split, samples, statistics, overall scores."""
