"""Builds DynEvalInstruct, the training data of the students, from the teacher's annotations.

`builder.build` is the entry. `annotations` joins the four files of a pair, `curation` decides what is kept or held out,
`samples` writes conversations, `chunks` and `parallel` do this for many pairs at once, and the rest reports.
"""
