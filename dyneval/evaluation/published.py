"""Figures that the DynEval paper published, as package data; shown beside measured ones and marked as published."""

from __future__ import annotations

import csv
import tomllib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from dyneval import model_table
from dyneval.model_table import model_key

SOURCE = "DynEval, arXiv 2607.11199"


class PublishedAgreement(NamedTuple):
    """SRCC and PLCC of one evaluator on one benchmark of `pairs` images, as published."""

    benchmark: str
    pairs: int
    evaluator: str
    srcc: float
    plcc: float


class PublishedModel(NamedTuple):
    """A T2I model of the paper; `normalised` is its overall score on DynEval-1K, 0-1."""

    slug: str
    name: str
    tier: int
    normalised: float
    year: int


@cache
def agreements() -> tuple[PublishedAgreement, ...]:
    """Every published row, benchmarks in the order of the paper."""
    return tuple(
        PublishedAgreement(
            row["benchmark"], int(row["pairs"]), row["evaluator"], float(row["srcc"]), float(row["plcc"])
        )
        for row in _rows("published_agreement.csv")
    )


@cache
def models() -> tuple[PublishedModel, ...]:
    """The 36 T2I models, best first."""
    scored = [model for model in model_table.models() if model.paper_score is not None and model.year is not None]
    found = [PublishedModel(m.slug, m.name, m.tier, m.paper_score or 0, m.year or 0) for m in scored]
    return tuple(sorted(found, key=lambda model: -model.normalised))


@cache
def dimensions() -> dict[str, tuple[str, ...]]:
    """The nine semantic dimensions, each with its sub-categories."""
    text = files(__package__).joinpath("data", "dimensions.toml").read_text("utf-8")
    return {name: tuple(categories) for name, categories in tomllib.loads(text).items()}


def find_model(name: str) -> PublishedModel | None:
    """Return the published model that `name` (display name, slug or folder name) means, or None."""
    return _by_key().get(model_key(name))


@cache
def _by_key() -> dict[str, PublishedModel]:
    return {model_key(name): model for model in models() for name in (model.name, model.slug)}


def _rows(name: str) -> list[dict[str, str]]:
    text = files(__package__).joinpath("data", name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
