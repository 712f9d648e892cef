"""Other metrics' scores of the same images: CLIPScore, ImageReward, HPS, VQAScore, chat judges and their kin.

`registry` lists them, `run` computes a score table with resume. `dyneval benchmark --compare` reads such a table.
"""
