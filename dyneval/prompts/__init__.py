"""Step 1: read prompts, drop the unusable and the repeated, score their complexity, tier and categorise them.

Read the modules in the order of the data: `sources` -> `clean` -> `text` -> `lexicon` -> `units` -> `complexity`,
`categories`, `minhash` -> `dedup` -> `selection` -> `outputs`, `report`. `pipeline` runs them in that order.
`filters` are what a run may drop or change, `wordlists`, `wordnet` and `patterns` what labels are made of. Word lists,
factor scales and category definitions are data files under `data/`.
"""
