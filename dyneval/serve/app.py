"""The application: its routes."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import dyneval
from dyneval.serve import openapi
from dyneval.serve.batcher import Batcher
from dyneval.serve.desk import Desk
from dyneval.serve.guard import Guard
from dyneval.serve.rating_desk import RatingDesk
from dyneval.serve.ratings import Ratings
from dyneval.serve.refusal import Refusal, warming_up
from dyneval.serve.rewards import RewardDesk
from dyneval.serve.settings import ServerSettings
from dyneval.serve.telemetry import Telemetry

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def create_app(
    batcher: Batcher | None, settings: ServerSettings, model: dict[str, Any], ratings: Ratings | None = None
) -> FastAPI:
    """Put the application together; it starts and ends `batcher`.

    Args:
        batcher: scores what the requests bring; None: there is no student, people rate.
        settings: limits, token.
        model: what /v1/model tells about the student.
        ratings: what people rate, open.
    """
    telemetry = Telemetry(batcher)
    desk = Desk(batcher, settings, telemetry) if batcher else None
    rating = RatingDesk(ratings, settings.seconds(0)) if ratings else None
    rewards = RewardDesk(desk, batcher, settings, model) if batcher and desk and settings.rewards else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if batcher:
            batcher.start()
        yield
        if batcher and desk:
            await batcher.close()
            desk.close()
        if rating:
            rating.close()

    # Without the interactive documents, which load scripts from elsewhere.
    app = FastAPI(
        title="DynEval",
        version=dyneval.__version__,
        description=openapi.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if desk else None,
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect would repeat whatever name the client calls the server by
    )
    guarded = [Depends(_bearer(settings.token))]
    if batcher and desk:
        limits = {"bytes": settings.max_body, "pixels": settings.max_pixels, "filling": batcher.filling}
        known = model | {"limits": limits, "rating": bool(rating)}
        app.include_router(_scoring(desk, batcher, known), dependencies=guarded)
    if rewards:
        app.include_router(rewards.router(), dependencies=guarded)
    if rating:
        app.include_router(rating.router(), dependencies=guarded)
    app.include_router(_watching(batcher, telemetry, settings.token))
    app.include_router(
        _pages({"/": "index.html" if desk else "rate.html"} | ({"/rate": "rate.html"} if rating else {}))
    )
    patient = tuple(rewards.routes()) if rewards else ()
    app.add_middleware(Guard, settings=settings, telemetry=telemetry, patient=patient)
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(ClientDisconnect, _refuse)
    app.openapi = lambda: openapi.describe(app, settings)  # type: ignore[method-assign]
    return app


def _scoring(desk: Desk, batcher: Batcher, model: dict[str, Any]) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["scoring"])

    @router.post("/score", summary="Score one image", operation_id="score")
    async def score(request: Request) -> Response:
        return JSONResponse(await desk.one(request))

    @router.post("/score/stream", summary="Score one image and watch its passes", operation_id="stream")
    async def stream(request: Request) -> Response:
        return await desk.stream(request)

    @router.post("/score/batch", summary="Score several images", operation_id="batch")
    async def batch(request: Request) -> Response:
        return JSONResponse({"results": await desk.many(request)})

    @router.get("/model", summary="The student and its settings", operation_id="model")
    async def about() -> Response:
        took = {"seconds": round(batcher.first_pair, 2)} if batcher.first_pair else {}
        return JSONResponse(model | took)

    return router


def _watching(batcher: Batcher | None, telemetry: Telemetry, token: str | None) -> APIRouter:
    router = APIRouter(tags=["watching"])

    @router.get("/healthz", summary="The process is alive", operation_id="healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", summary="Pairs are taken", operation_id="readyz")
    async def readyz() -> Response:
        if batcher and not batcher.warm.is_set():
            raise warming_up(5)
        if batcher and not batcher.ready:
            raise Refusal(503, "not_ready", "the server is ending, or its student is broken")
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", summary="Prometheus", operation_id="metrics", dependencies=[Depends(_bearer(token))])
    async def metrics() -> Response:
        return Response(telemetry.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _pages(pages: dict[str, str]) -> APIRouter:
    """The pages, by path, and their scripts and styles, each below its own name."""
    router = APIRouter(include_in_schema=False)
    folder = files("dyneval.serve").joinpath("page")
    shared = {f"/{file.name}": file.name for file in folder.iterdir() if not file.name.endswith(".html")}
    for path, name in (pages | shared).items():
        router.add_api_route(path, _file(folder.joinpath(name).read_bytes(), _KINDS[PurePath(name).suffix]))
    return router


def _file(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return Response(content, media_type=kind)

    return send


def _bearer(token: str | None) -> Callable[[Request], Awaitable[None]]:
    """Check of the bearer token, compared in constant time."""

    async def check(request: Request) -> None:
        if token is None:
            return
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            what = "the bearer token is wrong" if given.startswith(b"Bearer ") else "a bearer token is needed"
            raise Refusal(401, "unauthorised", what, {"WWW-Authenticate": "Bearer"})

    return check


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        error = Refusal(400, "disconnected", "the client went away")
    if isinstance(error, HTTPException):
        error = Refusal(error.status_code, "http", str(error.detail), error.headers)
    if not isinstance(error, Refusal):
        raise error
    return JSONResponse(error.to_dict(), error.status, error.headers)
