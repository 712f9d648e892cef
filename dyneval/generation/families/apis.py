"""The clients of the image APIs of OpenAI and Google, and of servers that speak the same under another address.

They translate: a request into the SDK's call, its answer into an `ApiReply`, its exceptions into an `ApiError`. What is
done about an error stands in `hosted`. A code that is read wrongly here ends a run that could go on, or marks a prompt
as refused for good.
"""

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
        """Return the parameters of the SDK's call, but those that are ours."""
        from openai.resources.images import AsyncImages

        ours = ("self", "model", "prompt", "n", "stream", "partial_images", "response_format")
        return [name for name in inspect.signature(AsyncImages.generate).parameters if name not in ours]

    def size(self) -> tuple[int, int] | None:
        """Return the size asked for, written as "1024x1024"; None for "auto"."""
        found = re.fullmatch(r"(\d+)x(\d+)", str(self.arguments.get("size")))
        return (int(found[1]), int(found[2])) if found else None

    def connect(self, key: str, base_url: str | None) -> Any:
        """Return an AsyncOpenAI client; the arguments are sent as they are, if they are JSON."""
        from openai import AsyncOpenAI

        json.dumps(self.arguments, allow_nan=False)
        return AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, timeout=TIMEOUT)

    async def ask(self, request: ImageRequest, prompt: str) -> ApiReply:
        """Ask for one image; models of the GPT family always send it as base64."""
        result = await self.client.images.generate(model=self.model_id, prompt=prompt, n=1, **self.arguments)
        if isinstance(result, str):  # a page of some proxy, with status 200
            return ApiReply(image=None, reason=f"the reply is not JSON: {result}")
        tokens = (result.usage.input_tokens, result.usage.output_tokens) if result.usage else (0, 0)
        content = result.data[0].b64_json if result.data else None
        if not content:
            return ApiReply(image=None, reason="the reply holds no image", tokens=tokens)
        try:
            return ApiReply(image=base64.b64decode(content, validate=True), tokens=tokens)
        except ValueError as error:
            return ApiReply(image=None, reason=f"the image in the reply is not base64 ({error})", tokens=tokens)

    def read_error(self, error: Exception) -> ApiError | None:
        """Read status, code and wait of an error of the SDK."""
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


class GoogleImages(HostedModel):
    """One image a request, with a seed. A refusal is an ordinary reply without an image."""

    seeded = True

    @classmethod
    def reads(cls) -> Iterable[str]:
        """Return the fields of the SDK's ImageConfig, and the modalities."""
        from google.genai import types

        return ["response_modalities", *types.ImageConfig.model_fields]

    def size(self) -> tuple[int, int] | None:
        """Return the size asked for where it is a square; None for other shapes, whose pixels are not known."""
        side = {"512": 512, "1K": 1024, "2K": 2048, "4K": 4096}.get(str(self.arguments.get("image_size")))
        return (side, side) if side and self.arguments.get("aspect_ratio") == "1:1" else None

    def connect(self, key: str, base_url: str | None) -> Any:
        """Return a google-genai client; `arguments` are those of the SDK's ImageConfig, and the modalities."""
        from google import genai
        from google.genai import types

        arguments = dict(self.arguments)
        self.config = types.GenerateContentConfig(
            response_modalities=arguments.pop("response_modalities", None),
            image_config=types.ImageConfig(**arguments) if arguments else None,
        )
        retry = types.HttpRetryOptions(attempts=1)
        options = types.HttpOptions(base_url=base_url, timeout=int(1000 * TIMEOUT), retry_options=retry)
        return genai.Client(api_key=key, http_options=options).aio

    async def ask(self, request: ImageRequest, prompt: str) -> ApiReply:
        """Ask for one image; the first candidate holds it, or the reason why it does not."""
        config = self.config.model_copy(update={"seed": request.seed})
        result = await self.client.models.generate_content(model=self.model_id, contents=prompt, config=config)
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

    def read_error(self, error: Exception) -> ApiError | None:
        """Read status and wait of an error of the SDK, or of the connection beneath it."""
        from google.genai import errors

        if isinstance(error, errors.APIError):
            # The reason (API_KEY_INVALID) is in an ErrorInfo, the wait ("34s") in a RetryInfo. Both are searched for in
            # the text of the details, whatever their place there.
            details = str(error.details)
            info = re.search(r"'reason': '([A-Z_]+)'", details)
            delay = re.search(r"'retryDelay': '([0-9.]+)s'", details)
            wait = retry_after(getattr(error.response, "headers", None) or {})
            return ApiError(
                status=error.code,
                message=error.message or "",
                code=" ".join(filter(None, (error.status, info[1] if info else ""))),
                wait=float(delay[1]) if wait is None and delay else wait,
            )
        # Connections fail with classes of the HTTP library below the SDK, of which there are three.
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in {"httpx", "httpx2", "aiohttp"}:
            return ApiError(status=None, message=f"{type(error).__name__}: {error}")
        return None
