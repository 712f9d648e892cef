"""What computes the student's replies: this process, vLLM in this process, or a server.

`transformers` is exact and the reference: forced text is not decoded, images are read once, scores depend on no batch.
`vllm` and `openai` decode as much at once as a large GPU holds, under the same schemas. `base` is what all of them have
in common for their callers, `registry` their names and options.
"""
