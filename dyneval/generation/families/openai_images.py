"""The OpenAI images API, and whatever speaks it under another address."""

from __future__ import annotations

import base64
from typing import Any

from dyneval.generation.families.hosted import Fault, HostedModel, Reply, retry_after
from dyneval.generation.model import Request

TIMEOUT = 600.0
"""Seconds; high-quality images take minutes."""


class OpenAIImages(HostedModel):
    """One image a request; the API takes no seed."""

    def connect(self, key: str, base_url: str | None) -> Any:
        """An AsyncOpenAI client without retries."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, timeout=TIMEOUT)

    async def ask(self, request: Request, prompt: str) -> Reply:
        """Ask for one image; models of the GPT family always send it as base64."""
        result = await self.client.images.generate(model=self.model_id, prompt=prompt, n=1, **self.arguments)
        tokens = (result.usage.input_tokens, result.usage.output_tokens) if result.usage else (0, 0)
        content = result.data[0].b64_json if result.data else None
        if not content:
            return Reply(image=None, reason="the reply holds no image", tokens=tokens)
        return Reply(image=base64.b64decode(content), tokens=tokens)

    def read_fault(self, error: Exception) -> Fault | None:
        """Status, code and wait of an error of the SDK."""
        import openai

        if isinstance(error, openai.APIStatusError):
            return Fault(
                status=error.status_code,
                message=error.message,
                code=error.code or "",
                wait=retry_after(error.response.headers),
            )
        if isinstance(error, openai.APIConnectionError):
            return Fault(status=None, message=str(error))
        return None

    async def disconnect(self) -> None:
        """Close the client."""
        await self.client.close()
