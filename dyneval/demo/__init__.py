"""The offline demonstration: everything the five steps need on a machine without GPU, weights or network.

`dyneval demo` and `pipeline/demo.sh` run on it, and so do most tests. The demo world is procedural: prompts ask for
small scenes, three demo models draw them with faults, and the truth about each image is known. So an oracle can teach,
and a score can be compared with what it should be. The same arguments always give the same bytes: the shipped judge was
trained on these pictures, and a change of how they are drawn makes it wrong about them.

The world: `vocabulary` (its words), `scenes`, `prompts` (scenes as text and back), `faults` (what goes wrong), `truth`,
`layout`, `backdrops`, `strokes`, `shapes` and `render` (pictures), `questions` and `knowledge` (what there is to ask,
and the right answers). It comes into the steps by two plug-ins, both looked up by name: `painters` are models of Step
2, `oracle` is a teacher of Step 3. For Step 4 there are `tiny_model` (random weights) and `weights` (the shipped base
and judge); `summary` and `page` tell of a run.
"""
