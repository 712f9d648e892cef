"""Step 3: a large vision-language model, the teacher, annotates pairs of prompt and image.

`runner.annotate` opens the files and writes them, `worker` asks an engine, `annotating` decides what is asked next,
`workflows` makes one record, `prompts` holds the wording, and `replies` with `extract` refuse what cannot be used.
"""
