"""Step 3's workflows: a teacher writes questions, scene graphs, answers and scores; nothing unusable is kept."""
