"""The application: which routes there are, and what stands around all of them.

Scoring (`scoring_routes`), rewards for trainers (`rewards`), ratings by people (`rating_routes`), figures, and the
pages. What is served depends on what is there: a student, pairs to rate, or both. Everything but the pages, /healthz
and /readyz asks for the token, if there is one; a route that is added without `guarded` lets everyone in.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import PurePath
from typing import Any, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import dyneval
from dyneval.serve import openapi
from dyneval.serve.answers import FixedAnswer
from dyneval.serve.batcher import Batcher
from dyneval.serve.guard import Guard
from dyneval.serve.rating_routes import RatingRoutes
from dyneval.serve.ratings import Ratings
from dyneval.serve.refusal import Refusal, warming_up
from dyneval.serve.rewards import RewardRoutes
from dyneval.serve.scoring_routes import ScoringRoutes
from dyneval.serve.settings import ServerSettings
from dyneval.serve.telemetry import Telemetry

_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


class _BearerToken(NamedTuple):
    """The token that requests must bring; None: they need none."""

    token: str | None

    async def check(self, request: Request) -> None:
        """Raise Refusal (401) if the token is missing or wrong."""
        if self.token is None:
            return
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        # In constant time: how long a plain comparison takes tells a stranger how many letters of a guess are right.
        if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            what = "the bearer token is wrong" if given.startswith(b"Bearer ") else "a bearer token is needed"
            raise Refusal(401, "unauthorised", what, {"WWW-Authenticate": "Bearer"})


def create_app(
    batcher: Batcher | None, settings: ServerSettings, model: dict[str, Any], ratings: Ratings | None = None
) -> FastAPI:
    """Put the application together.

    Args:
        batcher: scores what the requests bring; the application starts and ends it. None: there is no student, people
            rate.
        settings: limits, token.
        model: what /v1/model tells about the student.
        ratings: what people rate, open; None: there is nothing to rate.
    """
    telemetry = Telemetry(batcher)
    rating = RatingRoutes(ratings, settings.seconds(0)) if ratings else None
    scoring = rewards = None
    if batcher:
        limits = {"bytes": settings.max_body, "pixels": settings.max_pixels, "filling": batcher.filling}
        scoring = ScoringRoutes(batcher, settings, telemetry, model | {"limits": limits, "rating": bool(rating)})
        rewards = RewardRoutes(scoring, batcher, settings, model) if settings.rewards else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if batcher:
            batcher.start()
        yield
        if batcher and scoring:
            await batcher.close()
            scoring.decoders.close()
        if rating:
            rating.decoders.close()

    app = FastAPI(
        title="DynEval",
        version=dyneval.__version__,
        description=openapi.DESCRIPTION,
        # FastAPI's interactive pages load scripts from another site, which our Content-Security-Policy forbids.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if scoring else None,
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect would repeat whatever name the client calls the server by
    )
    guarded = [Depends(_BearerToken(settings.token).check)]
    for with_routes in (scoring, rewards, rating):
        if with_routes:
            app.include_router(with_routes.router(), dependencies=guarded)
    app.include_router(_watching(batcher, telemetry, guarded))
    folder = files("dyneval.serve").joinpath("page")
    pages = {"/": "index.html" if scoring else "rate.html"} | ({"/rate": "rate.html"} if rating else {})
    pages |= {f"/{file.name}": file.name for file in folder.iterdir() if not file.name.endswith(".html")}
    for path, name in pages.items():
        page = FixedAnswer(folder.joinpath(name).read_bytes(), _MEDIA_TYPES[PurePath(name).suffix])
        app.add_api_route(path, page.send, include_in_schema=False)
    patient = tuple(rewards.routes()) if rewards else ()
    app.add_middleware(Guard, settings=settings, telemetry=telemetry, patient=patient)
    for kind in (Refusal, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, _refuse)
    app.openapi = lambda: openapi.describe(app, settings)  # type: ignore[method-assign]
    return app


def _watching(batcher: Batcher | None, telemetry: Telemetry, guarded: Sequence[Any]) -> APIRouter:
    """Return the routes for what watches the server: Kubernetes, load balancers, Prometheus."""
    router = APIRouter(tags=["watching"])
    alive = FixedAnswer(b'{"status":"ok"}')
    about = "Says nothing of the student, see /readyz."
    router.add_api_route(
        "/healthz", alive.send, summary="The process is alive", description=about, operation_id="healthz"
    )

    @router.get("/readyz", summary="Pairs are taken", operation_id="readyz")
    async def readyz() -> Response:
        if batcher and not batcher.warm.is_set():
            raise warming_up(5)
        if batcher and not batcher.ready:
            raise Refusal(503, "not_ready", "the server is ending, or its student is broken")
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", summary="Prometheus", operation_id="metrics", dependencies=guarded)
    async def metrics() -> Response:
        return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)

    return router


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer an error in the form of all refusals, also those that Starlette raises, such as 404."""
    if isinstance(error, ClientDisconnect):
        error = Refusal(400, "disconnected", "the client went away")
    if isinstance(error, HTTPException):
        error = Refusal(error.status_code, "http", str(error.detail), error.headers)
    if not isinstance(error, Refusal):
        raise error
    return JSONResponse(error.to_dict(), error.status, error.headers)
