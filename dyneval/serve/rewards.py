"""Routes of trainers (`dyneval serve --rewards`): what they call without a line of code of their own.

| trainer | its setting | what it calls |
|---|---|---|
| Flow-Factory | `server_url: http://host:8000` | GET /health, POST /compute |
| UniRL | `base_url: http://host:8000`, `required_rewards: [dyneval]` | GET /health, POST /score |
| flow_grpo, DiffusionNFT: `unifiedreward` | `http://host:8000/v1` in `rewards.py` | POST /v1/chat/completions |
| verl-omni: `unified_reward` | its reward router | POST /v1/chat/completions |
| verl-omni: `http_scorer_client`; DDPO and the like | `server_url: http://host:8000`, with --pickles | POST / |

`http://host:8000/t2ia` and `.../iqa` in place of `http://host:8000` give one part as the reward; of UniRL these are the
rewards `dyneval_t2ia` and `dyneval_iqa`.

Their clients end a training run after a 429 or three refusals, and give up after 60 to 300 s of silence. So requests
wait for places, an image of each in turn, and hear from the server every few seconds: the status is sent, then blanks
in front of the JSON, which every reader skips. Pickles have no such blanks; their clients ask again when the server
answers with status 500.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from dyneval.serve.answers import FixedAnswer, StreamedAnswer
from dyneval.serve.batcher import Batcher
from dyneval.serve.bodies import arrived
from dyneval.serve.pickles import read_pickle, refused_pickle
from dyneval.serve.refusal import Refusal, late
from dyneval.serve.reward_forms import PART_NAMES, Result, RewardRequest, read_chat, read_compute, read_service
from dyneval.serve.scoring_routes import ScoringRoutes, is_over
from dyneval.serve.settings import ServerSettings

_SILENCE = 10.0
"""Seconds after which a client hears that it is not forgotten; the shortest timeout of a known client is 60 s."""
_PICKLES_WAIT = 100.0
"""Seconds that a pickle may take; their clients give up after 120."""
_PARTS = {"t2ia-only": ("t2ia",), "iqa-only": ("iqa",)}
"""The scores of the modes that give one part alone."""
_JSON, _PICKLE = "application/json", "application/octet-stream"
Read = Callable[[bytes], RewardRequest]
Answer = Callable[[Request], Awaitable[Response]]


class RewardRoutes:
    """Answers trainers, however long it takes until there are places for what they bring."""

    def __init__(
        self, scoring: ScoringRoutes, batcher: Batcher, settings: ServerSettings, model: dict[str, Any]
    ) -> None:
        """Get ready.

        Args:
            scoring: scores the pairs.
            batcher: whose health is told.
            settings: limits of time and size, and whether pickles are read.
            model: what /v1/model tells about the student.
        """
        self._scoring = scoring
        self._batcher = batcher
        self._settings = settings
        self._model = str(model.get("model", "dyneval"))
        parts: tuple[str, ...] = _PARTS.get(model.get("settings", {}).get("mode", "full"), PART_NAMES)
        self._offered: dict[str, tuple[str, ...]] = {"dyneval": parts} | {
            f"dyneval_{part}": (part,) for part in parts if part != "overall"
        }

    def routes(self) -> dict[str, Answer]:
        """Return what answers a POST, by path. The bodies of these paths wait unread while the server holds many."""
        found: dict[str, Answer] = {
            "/score": partial(self._json, partial(read_service, offered=self._offered)),
            "/v1/chat/completions": partial(self._json, read_chat),
        }
        for prefix, part in (("", None), ("/t2ia", "t2ia"), ("/iqa", "iqa")):
            found[f"{prefix}/compute"] = partial(self._json, partial(read_compute, part=part))
            if self._settings.pickles:
                found[prefix or "/"] = partial(self._pickle, part)
        return found

    def router(self) -> APIRouter:
        """Return all routes; none stands in the description of the server, which is for other clients."""
        router = APIRouter(include_in_schema=False)
        for path, answer in self.routes().items():
            router.add_api_route(path, _endpoint(answer), methods=["POST"])
        for prefix in ("", "/t2ia", "/iqa"):
            router.add_api_route(f"{prefix}/health", self._health)
        names = dict.fromkeys(("dyneval", self._model))
        models = [{"id": name, "object": "model", "owned_by": "dyneval"} for name in names]
        for path, told in (
            ("/rewards", {"rewards": list(self._offered)}),
            ("/v1/models", {"object": "list", "data": models}),
        ):
            router.add_api_route(path, FixedAnswer(json.dumps(told).encode()).send)
        return router

    async def _health(self) -> Response:
        # Healthy while the first pair is still scored: requests wait for it, and a trainer that finds its reward
        # server ill when it starts ends at once.
        if self._batcher.warm.is_set() and not self._batcher.ready:
            raise Refusal(503, "not_ready", "the server is ending, or its student is broken")
        return JSONResponse({"status": "ok", "rewards": {name: [True] for name in self._offered}})

    async def _json(self, read: Read, request: Request) -> Response:
        """Answer with JSON: at once if it takes no longer than `_SILENCE`, with a true status; else after blanks."""
        until = asyncio.get_running_loop().time() + self._settings.reward_timeout
        asked = read(await self._body(request))
        work = asyncio.ensure_future(self._scoring.in_turn(asked.uploads))
        if await is_over(request, work, min(_SILENCE, self._settings.reward_timeout)):
            return Response(asked.answer(work.result()), media_type=_JSON)
        return StreamedAnswer(self._behind_blanks(asked, work, until), work.cancel, _JSON)

    async def _behind_blanks(
        self, asked: RewardRequest, work: asyncio.Future[list[Result]], until: float
    ) -> AsyncIterator[bytes]:
        """Yield blanks until the answer is known, then the answer."""
        clock = asyncio.get_running_loop().time
        while not work.done() and (rest := until - clock()) > 0:
            yield b" "
            await asyncio.wait({work}, timeout=min(_SILENCE, rest))
        try:
            if not work.done():
                raise late(self._settings.reward_timeout)
            yield asked.answer(work.result())
        except Refusal as refusal:
            yield asked.refused(refusal)

    async def _pickle(self, part: str | None, request: Request) -> Response:
        """Answer a pickle with a pickle, in time for clients that cannot be kept waiting."""
        try:
            asked = read_pickle(await self._body(request), part, self._settings.max_body)
            work = asyncio.ensure_future(self._scoring.in_turn(asked.uploads))
            seconds = min(_PICKLES_WAIT, self._settings.reward_timeout)
            try:
                if not await is_over(request, work, seconds):
                    raise late(seconds)
                return Response(asked.answer(work.result()), media_type=_PICKLE)
            finally:
                work.cancel()
        except Refusal as refusal:
            status = min(refusal.status, 500)  # clients such as DDPO's ask again at 500 and at no other status
            return Response(refused_pickle(refusal), status, refusal.headers, _PICKLE)

    async def _body(self, request: Request) -> bytes:
        """Read the body. Raises Refusal (408)."""
        seconds = self._settings.seconds(self._batcher.first_pair)

        # `request.body()` would keep the bytes for as long as the request lives: a trainer's may wait for half an hour,
        # when its images have long been decoded.
        async def whole() -> bytes:
            return b"".join([chunk async for chunk in request.stream()])

        return await arrived(whole(), asyncio.get_running_loop().time() + seconds, seconds)


def _endpoint(answer: Answer) -> Answer:
    """Make an endpoint of a partial, of whose annotations FastAPI cannot make sense."""

    async def endpoint(request: Request) -> Response:
        return await answer(request)

    return endpoint
