"""Routes of trainers (`dyneval serve --rewards`): what they call without a line of code of their own.

| trainer | its setting | what it calls |
|---|---|---|
| Flow-Factory | `server_url: http://host:8000` | GET /health, POST /compute |
| UniRL | `base_url: http://host:8000`, `required_rewards: [dyneval]` | GET /health, POST /score |
| flow_grpo, DiffusionNFT: `unifiedreward` | `http://host:8000/v1` in `rewards.py` | POST /v1/chat/completions |
| verl-omni: `unified_reward` | its reward router | POST /v1/chat/completions |
| verl-omni: `http_scorer_client`; DDPO's kin | `server_url: http://host:8000`, with --pickles | POST / |

`http://host:8000/t2ia` and `.../iqa` in place of `http://host:8000` give one half as the reward; of UniRL these are the
rewards `dyneval_t2ia` and `dyneval_iqa`.

Clients give up soon (60, 120, 300 s of silence) and die of a 429 or of three refusals. So their requests wait for room,
an image of each in turn, and hear from the server every few seconds: blanks in front of JSON, which every reader skips,
after the status was sent. Pickles have no such blanks; their clients ask again when told of a server's error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from dyneval.serve.batcher import Batcher
from dyneval.serve.bodies import arrived
from dyneval.serve.desk import Desk, Streamed, gone
from dyneval.serve.pickles import read_pickle, refused_pickle
from dyneval.serve.refusal import Refusal, late
from dyneval.serve.reward_forms import PART_NAMES, Result, RewardRequest, read_chat, read_compute, read_service
from dyneval.serve.settings import ServerSettings

_SILENCE = 10.0
"""Seconds after which a client hears that it is not forgotten."""
_PICKLES_WAIT = 100.0
"""Seconds; their clients give up after 120."""
_PARTS = {"t2ia-only": ("t2ia",), "iqa-only": ("iqa",)}
_JSON, _PICKLE = "application/json", "application/octet-stream"
Read = Callable[[bytes], RewardRequest]
Answer = Callable[[Request], Awaitable[Response]]


class RewardDesk:
    """Answers trainers, however long it takes until there is room for what they bring."""

    def __init__(self, desk: Desk, batcher: Batcher, settings: ServerSettings, model: dict[str, Any]) -> None:
        """`model`: what /v1/model tells about the student."""
        self._desk = desk
        self._batcher = batcher
        self._settings = settings
        self._model = str(model.get("model", "dyneval"))
        parts: tuple[str, ...] = _PARTS.get(model.get("settings", {}).get("mode", "full"), PART_NAMES)
        self._offered: dict[str, tuple[str, ...]] = {"dyneval": parts} | {
            f"dyneval_{part}": (part,) for part in parts if part != "overall"
        }

    def routes(self) -> dict[str, Answer]:
        """What answers a POST to each path."""
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
        """All routes; none stands in the description of the server, which is for others."""
        router = APIRouter(include_in_schema=False)
        for path, answer in self.routes().items():
            router.add_api_route(path, _endpoint(answer), methods=["POST"])
        for prefix in ("", "/t2ia", "/iqa"):
            router.add_api_route(f"{prefix}/health", self._health)
        router.add_api_route("/rewards", self._rewards)
        router.add_api_route("/v1/models", self._models)
        return router

    async def _health(self) -> Response:
        """Also while the first pair is scored: requests wait for it, and clients die of an illness at their start."""
        if self._batcher.warm.is_set() and not self._batcher.ready:
            raise Refusal(503, "not_ready", "the server is ending, or its student is broken")
        return JSONResponse({"status": "ok", "rewards": {name: [True] for name in self._offered}})

    async def _rewards(self) -> Response:
        return JSONResponse({"rewards": list(self._offered)})

    async def _models(self) -> Response:
        names = dict.fromkeys(("dyneval", self._model))
        models = [{"id": name, "object": "model", "owned_by": "dyneval"} for name in names]
        return JSONResponse({"object": "list", "data": models})

    async def _json(self, read: Read, request: Request) -> Response:
        until = asyncio.get_running_loop().time() + self._settings.reward_timeout
        asked = read(await self._body(request))
        work = asyncio.ensure_future(self._desk.in_turn(asked.uploads))
        if await self._is_over(request, work, min(_SILENCE, self._settings.reward_timeout)):
            return Response(asked.answer(work.result()), media_type=_JSON)

        def over() -> None:
            work.cancel()

        return Streamed(self._told(asked, work, until), over, _JSON)

    async def _told(
        self, asked: RewardRequest, work: asyncio.Future[list[Result]], until: float
    ) -> AsyncIterator[bytes]:
        """Blanks until it is known what to say."""
        clock = asyncio.get_running_loop().time
        while not work.done() and (rest := until - clock()) > 0:
            yield b" "
            await asyncio.wait({work}, timeout=min(_SILENCE, rest))
        try:
            yield asked.answer(self._result(work, self._settings.reward_timeout))
        except Refusal as refusal:
            yield asked.refused(refusal)

    def _result(self, work: asyncio.Future[list[Result]], seconds: float) -> list[Result]:
        if not work.done():
            raise late(seconds)
        return work.result()

    async def _pickle(self, part: str | None, request: Request) -> Response:
        try:
            asked = read_pickle(await self._body(request), part, self._settings.max_body)
            work = asyncio.ensure_future(self._desk.in_turn(asked.uploads))
            seconds = min(_PICKLES_WAIT, self._settings.reward_timeout)
            try:
                await self._is_over(request, work, seconds)
                return Response(asked.answer(self._result(work, seconds)), media_type=_PICKLE)
            finally:
                work.cancel()
        except Refusal as refusal:
            status = min(refusal.status, 500)  # the only one that DDPO's kin ask again at
            return Response(refused_pickle(refusal), status, refusal.headers, _PICKLE)

    async def _body(self, request: Request) -> bytes:
        """All of it, and nothing that holds it once it is parsed. Raises Refusal (408)."""
        seconds = self._settings.seconds(self._batcher.first_pair)

        async def whole() -> bytes:
            return b"".join([chunk async for chunk in request.stream()])

        return await arrived(whole(), asyncio.get_running_loop().time() + seconds, seconds)

    async def _is_over(self, request: Request, work: asyncio.Future[list[Result]], seconds: float) -> bool:
        """Wait for some seconds; True when it is done. Raises ClientDisconnect when its client has gone."""
        leaving = asyncio.ensure_future(gone(request))
        try:
            await asyncio.wait((work, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not work.done():
                raise ClientDisconnect
            return work.done()
        except BaseException:
            work.cancel()
            raise
        finally:
            leaving.cancel()


def _endpoint(answer: Answer) -> Answer:
    async def endpoint(request: Request) -> Response:
        return await answer(request)

    return endpoint
