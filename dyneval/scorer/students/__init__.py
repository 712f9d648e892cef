"""What computes the student's replies: this process, vLLM in this process, or a server.

`transformers` is exact and the reference: forced text is not decoded, images are read once, scores depend on no batch.
`vllm` and `openai` decode whatever a large GPU fits at once; they are held to the same schemas.
"""
