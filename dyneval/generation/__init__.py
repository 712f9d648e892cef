"""Step 2: text-to-image models draw the prompts of Step 1, and GenDB keeps what they drew.

`runner.generate` is the whole step: it reads prompts, shares them out (`allocation`), draws what is missing (`workers`,
`engine`) and records it (`gendb`). `model` is the interface of every model, `families/` implements it for diffusers,
transformers, hosted APIs and external code, and `catalogue` makes the models from `dyneval/data/models.toml`. The other
files serve `dyneval gendb`: they count, check, copy and export what is in the folder.
"""
