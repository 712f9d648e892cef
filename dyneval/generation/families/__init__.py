"""The families of text-to-image models: what models that run in the same way share.

`diffusers` and `transformers` draw on this machine (`local`, `weights`), `hosted` asks an API (`apis` has the clients),
`external` runs the authors' own code in a process of its own (`external_worker` is the other end). A model that needs
no code of its own is only a table in `dyneval/data/models.toml`.
"""
