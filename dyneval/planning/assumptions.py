"""The figures that a plan rests on, each with its unit and where it comes from."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from dyneval.errors import SettingError

Kind = Literal["published", "counted", "derived", "assumed", "computed", "given", "measured"]


@dataclass(frozen=True, slots=True)
class Assumption:
    """One figure.

    Attributes:
        kind: published, counted, derived or assumed as in `data/assumptions.toml`; "computed" from others by
            `source`; "given" on the command line; "measured" in a run whose summary `source` names.
    """

    name: str
    value: float
    unit: str
    kind: Kind
    source: str


@dataclass(frozen=True, slots=True)
class Gpus:
    """`count` GPUs of one `type`, such as 8 of H100."""

    count: int
    type: str

    @classmethod
    def parse(cls, text: str) -> Gpus:
        """Read "8xH100". Raises SettingError."""
        count, times, name = text.partition("x")
        if not (times and count.isdecimal() and int(count) > 0 and name):
            raise SettingError(f"GPUs {text!r}: expected COUNTxTYPE, such as 8xH100")
        known = _data()["gpu"]
        if name not in known:
            raise SettingError(f"GPU type {name!r} is unknown; known: {', '.join(known)}")
        return cls(int(count), name)


class Assumptions:
    """Figures by name; remembers which a plan has used, so that exactly those can be shown."""

    def __init__(self, figures: Iterable[Assumption], formulas: Iterable[Formula] = ()) -> None:
        """`formulas` compute figures that are not given."""
        self._figures = {figure.name: figure for figure in figures}
        self._formulas = {formula.name: formula for formula in formulas}
        self.used: dict[str, Assumption] = {}

    def __getitem__(self, name: str) -> float:
        """Value of a figure. Raises SettingError when a formula cannot be computed."""
        if name not in self._figures:
            formula = self._formulas[name]
            value = formula.compute(self)
            self.used[name] = Assumption(
                name=name, value=value, unit=formula.unit, kind="computed", source=formula.source
            )
            return value
        self.used[name] = self._figures[name]
        return self._figures[name].value

    def __contains__(self, name: str) -> bool:
        return name in self._figures

    def replace(self, name: str, value: float, kind: Kind, source: str) -> None:
        """Put another value in the place of a figure. Raises SettingError for an unknown name or a value below 0."""
        known = {formula.name: formula.unit for formula in self._formulas.values()}
        known |= {figure.name: figure.unit for figure in self._figures.values()}
        if name not in known:
            raise SettingError(f"assumption {name!r} is unknown; known: {', '.join(sorted(known))}")
        if not 0 <= value < float("inf"):
            raise SettingError(f"assumption {name}: {value} is out of range, expected a number of at least 0")
        self._figures[name] = Assumption(name=name, value=value, unit=known[name], kind=kind, source=source)


@dataclass(frozen=True, slots=True)
class Formula:
    """How a figure follows from others; `source` says it in words."""

    name: str
    unit: str
    source: str
    compute: Callable[[Assumptions], float]


_TABLES = ("gpu", "teacher", "student")


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((files("dyneval.planning") / "data" / "assumptions.toml").read_text("utf-8"))


def gpus() -> dict[str, dict[str, Any]]:
    """`peak_tflops` (dense bfloat16), `bandwidth_tb` (TB/s) and `memory_gb` of each known type of GPU."""
    return dict(_data()["gpu"])


def teachers() -> dict[str, str]:
    """Names of the teachers whose throughput is known, with their repositories."""
    return {name: entry["repo"] for name, entry in _data()["teacher"].items()}


def load(teacher: str, student: str, gpus: Gpus, formulas: Iterable[Formula]) -> Assumptions:
    """Figures for these models on these GPUs.

    Raises:
        SettingError: a name is not in the data file. A teacher without a figure for this type of GPU is no error: its
            `teacher_tokens_per_gpu_second` is then missing, and may be given.
    """
    data = _data()
    names = {repo: name for name, repo in teachers().items()}
    entry = data["teacher"].get(names.get(teacher, teacher))
    if entry is None:
        raise SettingError(f"teacher {teacher!r} is unknown; known: {', '.join(teachers())}")
    if student not in data["student"]:
        raise SettingError(f"student {student!r} is unknown; known: {', '.join(data['student'])}")
    gpu, pupil = data["gpu"][gpus.type], data["student"][student]
    source = f"{gpus.type}: {gpu['source']}"
    figures = [
        *(Assumption(name=name, **fields) for name, fields in data.items() if name not in _TABLES),
        Assumption("peak_tflops", gpu["peak_tflops"], "TFLOP/s a GPU", "published", source),
        Assumption("bandwidth_tb", gpu["bandwidth_tb"], "TB/s a GPU", "published", source),
        Assumption("gpu_gb", gpu["memory_gb"], "GB a GPU", "published", source),
        Assumption("teacher_weights_gb", entry["weights_gb"], "GB", "counted", entry["source"]),
        Assumption("student_parameters", pupil["parameters"], "parameters", "counted", pupil["source"]),
        Assumption("student_token_kb", pupil["token_kb"], "kB a token held", "counted", pupil["source"]),
    ]
    if rate := entry["tokens_per_gpu_second"].get(gpus.type):
        unit = "tokens/s a GPU, in and out"
        figures.append(Assumption("teacher_tokens_per_gpu_second", rate["value"], unit, "derived", rate["source"]))
    return Assumptions(figures, formulas)
