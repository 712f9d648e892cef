"""The embedded default: everything the five steps need on a machine without GPU, weights or network.

The demo world is procedural: prompts ask for small scenes, three demo models draw them with faults, and the truth about
each image is known, so that an oracle can teach and a score can be compared with what it should be. The same arguments
always give the same bytes.

The world: `vocabulary` (its words), `scenes`, `prompts` (scenes as text and back), `faults` (what goes wrong), `truth`,
`layout`, `backdrops`, `strokes`, `shapes` and `render` (pictures), `questions` and `knowledge` (what there is to ask,
and the right answers). It comes into the steps by two plug-ins, both looked up by name: `painters` are models of Step
2, `oracle` is a teacher of Step 3. For Step 4 there are `tiny_model` (random weights) and `weights` (the shipped base
and judge); `summary` and `page` tell of a run.
"""
