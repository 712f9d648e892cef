"""Models behind an API: many requests in flight, waits that the server asks for, refusals kept, costs recorded.

Requests cost money, so a mistake here is paid for. Nothing is paid for twice: an image is saved as soon as it comes,
and a prompt that the service refuses (moderation) is a permanent NoImage, which the runner does not send again. Retries
are made here, not in the SDKs, so that a wait asked of one request holds back the others too. Keys come from the
environment.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import logging
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dyneval.errors import GenerationError, ImageError
from dyneval.files import images
from dyneval.generation.families.weights import versions
from dyneval.generation.model import (
    BuildOptions,
    GeneratedImage,
    ImageRequest,
    ModelBroken,
    ModelSpec,
    NoImage,
    Outcome,
    RequestedSize,
    RunOptions,
)

log = logging.getLogger(__name__)

ATTEMPTS = 6
"""With waits of at most 2, 4, 8, 16 and 32 s between them a request is given up after a minute."""
LONGEST_WAIT = 120.0
"""Seconds; a server that asks for more is given up on, and the request counts as missing."""
# HTTP statuses that a later attempt may not meet again: timeouts, conflicts, limits of rate, and faults of the server
# (529: overloaded).
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# Codes that no waiting mends; insufficient_quota comes with HTTP 429, as limits of rate do.
NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiReply:
    """What came back: the image file as bytes, or why there is none.

    Attributes:
        tokens: input and output tokens as the service counts them; (0, 0) where it does not.
    """

    image: bytes | None
    reason: str = ""
    permanent: bool = False
    tokens: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiError:
    """An error of an SDK, taken apart.

    Attributes:
        status: of HTTP; None when there was no answer at all.
        code: what the service calls it.
        wait: seconds until the service may be asked again.
        refused: it is about this prompt, which would be refused again. Every other error that waiting does not mend is
            about the key, the account, the country, the model id or an argument: no other prompt can do better.
    """

    status: int | None
    message: str
    code: str = ""
    wait: float | None = None
    refused: bool = False


class HostedModel(ABC):
    """A client of one API. Subclasses say how to ask and how to read an error.

    Attributes:
        seeded: whether the API takes a seed.
        batch_size: requests that are handed over at once, eight times those in flight.
    """

    seeded: ClassVar[bool] = False

    def __init__(self, spec: HostedSpec, options: BuildOptions, run: RunOptions) -> None:
        """Make the client. Raises GenerationError when the key is missing, or an argument is nothing to send."""
        self.spec = spec
        self.advice = spec.successor(options)
        self.suffix = spec.suffix(options)
        self.model_id = spec.repo(options)
        self.arguments = spec.arguments(options)
        self.concurrency = run.concurrency
        self.prices = run.prices
        self.batch_size = 8 * run.concurrency  # the wait for the slowest of a batch is shared by many
        self.loop = asyncio.new_event_loop()
        found = next((value for name in spec.keys if (value := os.environ.get(name, "").strip())), None)
        if found is None:
            raise GenerationError(f"{spec.slug} needs an API key; set {' or '.join(spec.keys)} in the environment")
        self._key: str = found
        try:
            self.client = self.connect(self._key, run.base_url)
        except (TypeError, ValueError) as error:  # before anything is sent, and so for every prompt
            raise GenerationError(f"{spec.slug}: nothing can be sent: {self._plain(str(error))}") from error
        self.asked_size = RequestedSize(spec.slug, self.size())
        self.facts: Mapping[str, Any] = {
            "revision": None,
            "versions": versions([name.replace(".", "-") for name in spec.packages]),
            "dtype": None,
        }
        self._not_before = 0.0
        self._error: Exception | None = None

    @classmethod
    @abstractmethod
    def reads(cls) -> Iterable[str]:
        """Return the names of arguments that the API takes."""

    @abstractmethod
    def size(self) -> tuple[int, int] | None:
        """Return width and height that are asked for; None where the service chooses."""

    @abstractmethod
    def connect(self, key: str, base_url: str | None) -> Any:
        """Return the SDK's asynchronous client, without retries of its own, and bring `arguments` into its form.

        Raises:
            TypeError, ValueError: the arguments have no form that can be sent.
        """

    @abstractmethod
    async def ask(self, request: ImageRequest, prompt: str) -> ApiReply:
        """Send one request; `prompt` is its text with the preset's suffix."""

    @abstractmethod
    def read_error(self, error: Exception) -> ApiError | None:
        """Take an SDK's exception apart; None when it is not one of the SDK's."""

    def generate(self, batch: Sequence[ImageRequest]) -> Iterator[Outcome]:
        """Yield outcomes as they come. Raises ModelBroken when the service takes no request at all."""
        self._error = None
        limit = asyncio.Semaphore(self.concurrency)
        tasks = {self.loop.create_task(self._one(request, limit)) for request in batch}
        try:
            while tasks:
                done, tasks = self.loop.run_until_complete(asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))
                yield from filter(None, (task.result() for task in done))
        finally:
            # After Ctrl-C, or when nobody takes the outcomes any more: a task that is left would go on asking.
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks))
        if self._error:
            raise self._error

    async def _one(self, request: ImageRequest, limit: asyncio.Semaphore) -> Outcome | None:
        """Return one outcome, or None after an error that ends the batch.

        `generate` raises the error when the requests that are in flight, and cost money, have come back; no further one
        is sent.
        """
        prompt = request.prompt + self.suffix
        async with limit:
            if self._error:
                return None
            start = time.perf_counter()
            try:
                reply = await self._persist(request, prompt)
            except Exception as error:
                self._error = error
                return None
        seconds = time.perf_counter() - start
        details: dict[str, Any] = {}
        given, taken = reply.tokens
        if given + taken:
            details = {"input_tokens": given, "output_tokens": taken}
            if self.prices:
                details["cost_usd"] = round((given * self.prices[0] + taken * self.prices[1]) / 1e6, 6)
        reason, permanent = reply.reason, reply.permanent
        # Whatever goes wrong with a reply costs this image only. It is paid for, so it is not asked for again in this
        # run, and the tokens that it took are recorded.
        try:
            if reply.image is not None:
                image = images.decode_image(reply.image, "the reply's image")
                return GeneratedImage(
                    request=request,
                    image=image,
                    prompt_sent=prompt,
                    seconds=seconds,
                    seeded=self.seeded,
                    details={**details, **self.asked_size.note(image)},
                )
        except ImageError as error:
            reason, permanent = str(error), False
        except Exception as error:
            reason, permanent = f"the reply cannot be used: {type(error).__name__}: {error}", False
        return NoImage(request=request, reason=self._plain(reason), permanent=permanent, details=details)

    async def _persist(self, request: ImageRequest, prompt: str) -> ApiReply:
        """Ask until there is an answer that counts, at most ATTEMPTS times."""
        for attempt in range(1, ATTEMPTS + 1):
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            try:
                return await self.ask(request, prompt)
            except Exception as error:
                fault = self.read_error(error)
                if fault is None:  # an answer that the SDK cannot read: it is paid for, so it is not asked for again
                    return ApiReply(image=None, reason=f"the reply cannot be read: {type(error).__name__}: {error}")
                verdict = self._judge(fault, attempt)
                if isinstance(verdict, ApiReply):
                    return verdict
                log.info("%s: HTTP %s, next attempt in %.1f s", request.pair_id, fault.status, verdict)
                # A wait that the service asks for is about the account: it holds back the other requests, too.
                if fault.wait is not None:
                    self._not_before = max(self._not_before, time.monotonic() + verdict)
                await asyncio.sleep(verdict)
        raise AssertionError("the last attempt is judged")

    def _judge(self, fault: ApiError, attempt: int) -> ApiReply | float:
        """Return the reply that an error amounts to, or the seconds to wait before the next attempt.

        Raises:
            ModelBroken: no other prompt can do better.
        """
        text = self._plain(f"HTTP {fault.status or 'without an answer'}: {fault.code} {fault.message}".strip())
        if fault.refused:
            return ApiReply(image=None, reason=text, permanent=True)
        # Google answers a bad key or a barred country with HTTP 400. Taken for a refusal, every prompt would be in
        # refused.jsonl for good; so an error is about one prompt only where the service says so.
        if fault.code in NO_MONEY or not (fault.status is None or fault.status in RETRIED):
            hint = self.advice if fault.status == 404 else ""
            raise ModelBroken(f"{self.spec.slug} ({self.model_id}): {text}{hint}")
        # Doubled each time up to a minute; by chance up to half less, so that requests which failed together do not all
        # come back together.
        wait = fault.wait if fault.wait is not None else min(2.0**attempt, 60.0) * random.uniform(0.5, 1.0)
        if attempt == ATTEMPTS or wait > LONGEST_WAIT:
            return ApiReply(image=None, reason=f"{text} (after {attempt} attempts)")
        return wait

    def _plain(self, text: str) -> str:
        """Return a text of the service for people to read, short and without the key, which some services repeat."""
        return text.replace(self._key, "[the API key]")[:500]

    def close(self) -> None:
        """Close the connections."""
        # google-genai calls it aclose, openai close.
        close = getattr(self.client, "aclose", None) or self.client.close
        self.loop.run_until_complete(close())
        self.loop.close()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for, given as a number or as a date (RFC 9110, 10.2.3).

    Args:
        headers: of the answer; an SDK may give them without folding their case.

    Returns:
        Seconds from now, 0 or more; None without a usable header.
    """
    value = headers.get("retry-after") or headers.get("Retry-After")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        date = email.utils.parsedate_tz(value)
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())


@dataclass(frozen=True, kw_only=True, slots=True)
class Lifetime:
    """When an id of an API ends, what takes its place, and where the service says so."""

    shutdown: datetime.date
    successor: str
    source: str


@dataclass(frozen=True, kw_only=True)
class HostedSpec(ModelSpec):
    """A model behind an API.

    Attributes:
        keys: environment variables that may hold the key, in the order in which they are tried.
        model: client of the API: "module:class".
        ids: model ids of the API that end, or have ended.
    """

    family: ClassVar[str] = "hosted"
    keys: tuple[str, ...]
    model: str
    ids: Mapping[str, Lifetime] = field(default_factory=dict)

    def reads(self, options: BuildOptions) -> Iterable[str]:
        """Return what the SDK's call takes."""
        return self.named_class(self.model).reads()

    def has_ended(self, model_id: str) -> bool:
        """Whether the service has shut this id down by today, as far as the table knows."""
        ends = self.ids[model_id].shutdown if model_id in self.ids else None
        return ends is not None and ends <= datetime.datetime.now(datetime.UTC).date()

    def successor(self, options: BuildOptions) -> str:
        """Return what to ask for in the place of an id, as the end of a message; empty where that is not known."""
        model_id = self.repo(options)
        if model_id not in self.ids:
            return ""
        known = self.ids[model_id]
        variant = next((name for name, repo in self.variants.items() if repo == known.successor), None)
        # --repo overrides --variant, so a user who gave it must give another one.
        flag = f"--variant {variant}" if variant and not options.repo else f"--repo {known.successor}"
        return f"; {model_id} shuts down on {known.shutdown}, the current id is {known.successor}: {flag}"

    def obstacles(self, run: RunOptions) -> list[str]:
        """Return what every model may lack, a missing key, and an id that the service has shut down."""
        usual = BuildOptions()
        has_key = any(os.environ.get(name, "").strip() for name in self.keys)
        return [
            *super().obstacles(run),
            *([] if has_key else [f"export {self.keys[0]}=..."]),
            *([self.successor(usual).removeprefix("; ")] if self.has_ended(self.repo(usual)) else []),
        ]

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> HostedModel:
        """Make the client. Raises GenerationError when the key is missing, or the service has ended the model."""
        model_id = self.repo(options)
        # Another server may still have what its vendor has shut down.
        if run.base_url is None and self.has_ended(model_id):
            raise GenerationError(f"{self.slug}: the service no longer has this model{self.successor(options)}")
        if model_id in self.ids:
            log.warning("%s%s", self.slug, self.successor(options).replace(";", ":", 1))
        return self.named_class(self.model)(self, options, run)
