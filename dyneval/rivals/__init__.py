"""Other metrics' scores of the same images: CLIPScore, ImageReward, HPS, VQAScore, chat judges and the like.

A metric that DynEval is compared with is called a rival. `registry` lists the rivals. `run` computes a table of scores
and goes on where an earlier run stopped. `dyneval benchmark --compare` reads such a table.
"""
