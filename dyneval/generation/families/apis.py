"""The image APIs of OpenAI and Google, and whatever speaks them under another address."""

from __future__ import annotations

import base64
import inspect
import json
import re
from collections.abc import Iterable
from typing import Any

from dyneval.generation.families.hosted import ApiError, ApiReply, HostedModel, retry_after
from dyneval.generation.model import ImageRequest

TIMEOUT = 600.0
"""Seconds; high-quality images take minutes."""
REFUSALS = frozenset({"moderation_blocked", "content_policy_violation"})
"""Codes of OpenAI's HTTP 400 that are about the prompt."""
PERMANENT = frozenset(
    {
        *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "ESCALATION"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    }
)
"""Reasons to end without an image that the same prompt would meet again."""


class OpenAIImages(HostedModel):
    """One image a request; the API takes no seed."""

    @classmethod
    def reads(cls) -> Iterable[str]:
        """Parameters of the SDK's call, but those that are ours."""
        from openai.resources.images import AsyncImages

        ours = ("self", "model", "prompt", "n", "stream", "partial_images", "response_format")
        return [name for name in inspect.signature(AsyncImages.generate).parameters if name not in ours]

    def size(self) -> tuple[int, int] | None:
        """As in "1024x1024"."""
        found = re.fullmatch(r"(\d+)x(\d+)", str(self.arguments.get("size")))
        return (int(found[1]), int(found[2])) if found else None

    def connect(self, key: str, base_url: str | None) -> Any:
        """An AsyncOpenAI client without retries."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, timeout=TIMEOUT)

    def prepare(self) -> None:
        """They are sent as they are."""
        json.dumps(self.arguments, allow_nan=False)

    async def ask(self, request: ImageRequest, prompt: str) -> ApiReply:
        """Ask for one image; models of the GPT family always send it as base64."""
        result = await self.client.images.generate(model=self.model_id, prompt=prompt, n=1, **self.arguments)
        if isinstance(result, str):  # a page of some proxy, with status 200
            return ApiReply(image=None, reason=f"the reply is no JSON: {result}")
        tokens = (result.usage.input_tokens, result.usage.output_tokens) if result.usage else (0, 0)
        content = result.data[0].b64_json if result.data else None
        if not content:
            return ApiReply(image=None, reason="the reply holds no image", tokens=tokens)
        try:
            return ApiReply(image=base64.b64decode(content, validate=True), tokens=tokens)
        except ValueError as error:
            return ApiReply(image=None, reason=f"the image in the reply is no base64 ({error})", tokens=tokens)

    def read_error(self, error: Exception) -> ApiError | None:
        """Status, code and wait of an error of the SDK."""
        import openai

        if isinstance(error, openai.APIStatusError):
            return ApiError(
                status=error.status_code,
                message=error.message,
                code=error.code or "",
                wait=retry_after(error.response.headers),
                refused=error.status_code == 400 and (error.code in REFUSALS or error.param == "prompt"),
            )
        if isinstance(error, openai.APIConnectionError):
            return ApiError(status=None, message=str(error))
        return None

    async def disconnect(self) -> None:
        """Close the client."""
        await self.client.close()


class GoogleImages(HostedModel):
    """One image a request. A refusal is an ordinary reply without an image."""

    seeded = True

    @classmethod
    def reads(cls) -> Iterable[str]:
        """Fields of the SDK's ImageConfig, and the modalities."""
        from google.genai import types

        return ["response_modalities", *types.ImageConfig.model_fields]

    def size(self) -> tuple[int, int] | None:
        """Known for squares alone."""
        side = {"512": 512, "1K": 1024, "2K": 2048, "4K": 4096}.get(str(self.arguments.get("image_size")))
        return (side, side) if side and self.arguments.get("aspect_ratio") == "1:1" else None

    def connect(self, key: str, base_url: str | None) -> Any:
        """A google-genai client without retries."""
        from google import genai
        from google.genai import types

        retry = types.HttpRetryOptions(attempts=1)
        options = types.HttpOptions(base_url=base_url, timeout=int(1000 * TIMEOUT), retry_options=retry)
        return genai.Client(api_key=key, http_options=options).aio

    def prepare(self) -> None:
        """The SDK's configuration: `arguments` are those of the ImageConfig, and the modalities."""
        from google.genai import types

        arguments = dict(self.arguments)
        self.config = types.GenerateContentConfig(
            response_modalities=arguments.pop("response_modalities", None),
            image_config=types.ImageConfig(**arguments) if arguments else None,
        )

    async def ask(self, request: ImageRequest, prompt: str) -> ApiReply:
        """Ask for one image."""
        config = self.config.model_copy(update={"seed": request.seed})
        result = await self.client.models.generate_content(model=self.model_id, contents=prompt, config=config)
        return _reply(result)

    def read_error(self, error: Exception) -> ApiError | None:
        """Status and wait of an error of the SDK, or of the connection beneath it."""
        from google.genai import errors

        if isinstance(error, errors.APIError):
            headers = getattr(error.response, "headers", None) or {}
            wait = retry_after(headers)
            return ApiError(
                status=error.code,
                message=error.message or "",
                code=" ".join(filter(None, (error.status, _error_info(error.details)))),
                wait=wait if wait is not None else _retry_delay(error.details),
            )
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in {"httpx", "httpx2", "aiohttp"}:
            return ApiError(status=None, message=f"{type(error).__name__}: {error}")
        return None

    async def disconnect(self) -> None:
        """Close the client."""
        await self.client.aclose()


def _reply(result: Any) -> ApiReply:
    usage = result.usage_metadata
    # Thoughts are billed as output, but not counted with the candidates.
    written = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0) if usage else 0
    tokens = (usage.prompt_token_count or 0, written) if usage else (0, 0)
    candidate = result.candidates[0] if result.candidates else None
    parts = (candidate.content.parts or []) if candidate and candidate.content else []
    parts = [part for part in parts if not part.thought]  # a model that thinks shows smaller images on its way
    image = next((part.inline_data.data for part in parts if part.inline_data and part.inline_data.data), None)
    if image:
        return ApiReply(image=image, tokens=tokens)
    if candidate is None:
        blocked = result.prompt_feedback.block_reason if result.prompt_feedback else None
        name = blocked.value if blocked else "no candidate"
        return ApiReply(
            image=None, reason=f"the prompt was blocked: {name}", permanent=blocked is not None, tokens=tokens
        )
    name = candidate.finish_reason.value if candidate.finish_reason else "no reason given"
    said = " ".join(part.text for part in parts if part.text)
    reason = f"no image: {name} {candidate.finish_message or said}".strip()
    return ApiReply(image=None, reason=reason, permanent=name in PERMANENT, tokens=tokens)


def _error_info(details: Any) -> str:
    """Reason in the ErrorInfo of an error's details, such as API_KEY_INVALID."""
    found = re.search(r"'reason': '([A-Z_]+)'", str(details))
    return found[1] if found else ""


def _retry_delay(details: Any) -> float | None:
    """Seconds in the RetryInfo of an error's details, such as {"retryDelay": "34s"}."""
    found = re.search(r"'retryDelay': '([0-9.]+)s'", str(details))
    return float(found[1]) if found else None
