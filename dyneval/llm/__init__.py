"""Ask a language model through one interface, whatever answers: a server, vLLM, transformers, or the demo's oracle.

Teachers, rivals and the labelling of prompts use it. `dyneval.llm.chat.ask` repeats a request until the reply can be
used; what an engine does to get a reply (retries, other servers, schemas) is its own affair.
"""
