"""Figures that the DynEval paper published, as package data; shown beside measured ones and marked as published.

They are compared with what is measured here, so a wrong figure would make a right measurement look wrong. The files are
in `data/`, copied from the paper's tables.
"""

from __future__ import annotations

import csv
import tomllib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from dyneval import model_table
from dyneval.model_table import Model, model_key

SOURCE = "DynEval, arXiv 2607.11199"


class PublishedAgreement(NamedTuple):
    """SRCC and PLCC of one evaluator on one benchmark of `pairs` images, as published."""

    benchmark: str
    pairs: int
    evaluator: str
    srcc: float
    plcc: float


@cache
def agreements() -> tuple[PublishedAgreement, ...]:
    """Every published row, benchmarks in the order of the paper."""
    text = files(__package__).joinpath("data", "published_agreement.csv").read_text("utf-8")
    return tuple(
        PublishedAgreement(
            row["benchmark"], int(row["pairs"]), row["evaluator"], float(row["srcc"]), float(row["plcc"])
        )
        for row in csv.DictReader(text.splitlines())
    )


@cache
def models() -> tuple[Model, ...]:
    """The 36 T2I models of the paper, best first."""
    # A model stands in the table under each of its names.
    return tuple(sorted(set(_by_key().values()), key=lambda model: -(model.paper_score or 0)))


@cache
def dimensions() -> dict[str, tuple[str, ...]]:
    """The nine semantic dimensions, each with its sub-categories."""
    text = files(__package__).joinpath("data", "dimensions.toml").read_text("utf-8")
    return {name: tuple(categories) for name, categories in tomllib.loads(text).items()}


def find_model(name: str) -> Model | None:
    """Return the published model that `name` (display name, alias, slug or folder name) means, or None."""
    return _by_key().get(model_key(name))


@cache
def _by_key() -> dict[str, Model]:
    # The table of models has newer ones as well, which the paper has no score of.
    return {key: model for key, model in model_table.by_key().items() if model.paper_score is not None}
