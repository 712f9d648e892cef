"""One chat interface, several engines: an OpenAI-compatible server, vLLM, transformers, the demo's oracle."""
