"""Image models of the Gemini API."""

from __future__ import annotations

import re
from typing import Any

from dyneval.generation.families.hosted import Fault, HostedModel, Reply, retry_after
from dyneval.generation.model import Request

TIMEOUT_MS = 600_000
PERMANENT = frozenset(
    {
        *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "ESCALATION"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    }
)
"""Reasons to end without an image that the same prompt would meet again."""


class GoogleImages(HostedModel):
    """One image a request. A refusal is an ordinary reply without an image."""

    seeded = True

    def connect(self, key: str, base_url: str | None) -> Any:
        """A google-genai client without retries."""
        from google import genai
        from google.genai import types

        retry = types.HttpRetryOptions(attempts=1)
        options = types.HttpOptions(base_url=base_url, timeout=TIMEOUT_MS, retry_options=retry)
        return genai.Client(api_key=key, http_options=options).aio

    async def ask(self, request: Request, prompt: str) -> Reply:
        """Ask for one image; `arguments` are those of the ImageConfig, and the modalities."""
        from google.genai import types

        arguments = dict(self.arguments)
        modalities = arguments.pop("response_modalities")
        config = types.GenerateContentConfig(
            response_modalities=modalities,
            seed=request.seed,
            image_config=types.ImageConfig(**arguments) if arguments else None,
        )
        result = await self.client.models.generate_content(model=self.model_id, contents=prompt, config=config)
        return _reply(result)

    def read_fault(self, error: Exception) -> Fault | None:
        """Status and wait of an error of the SDK, or of the connection beneath it."""
        from google.genai import errors

        if isinstance(error, errors.APIError):
            headers = getattr(error.response, "headers", None) or {}
            wait = retry_after(headers)
            return Fault(
                status=error.code,
                message=error.message or "",
                code=error.status or "",
                wait=wait if wait is not None else _retry_delay(error.details),
            )
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in {"httpx", "httpx2", "aiohttp"}:
            return Fault(status=None, message=f"{type(error).__name__}: {error}")
        return None

    async def disconnect(self) -> None:
        """Close the client."""
        await self.client.aclose()


def _reply(result: Any) -> Reply:
    usage = result.usage_metadata
    tokens = (usage.prompt_token_count or 0, usage.candidates_token_count or 0) if usage else (0, 0)
    candidate = result.candidates[0] if result.candidates else None
    parts = (candidate.content.parts or []) if candidate and candidate.content else []
    image = next((part.inline_data.data for part in parts if part.inline_data and part.inline_data.data), None)
    if image:
        return Reply(image=image, tokens=tokens)
    if candidate is None:
        blocked = result.prompt_feedback.block_reason if result.prompt_feedback else None
        name = blocked.value if blocked else "no candidate"
        return Reply(image=None, reason=f"the prompt was blocked: {name}", permanent=blocked is not None, tokens=tokens)
    name = candidate.finish_reason.value if candidate.finish_reason else "no reason given"
    said = " ".join(part.text for part in parts if part.text)[:200]
    reason = f"no image: {name} {candidate.finish_message or said}".strip()
    return Reply(image=None, reason=reason, permanent=name in PERMANENT, tokens=tokens)


def _retry_delay(details: Any) -> float | None:
    """Seconds in the RetryInfo of an error's details, such as {"retryDelay": "34s"}."""
    found = re.search(r"'retryDelay': '([0-9.]+)s'", str(details))
    return float(found[1]) if found else None
