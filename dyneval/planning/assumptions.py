"""The figures that a plan rests on, each with its unit and where it comes from.

They are in `data/assumptions.toml`. A plan is arithmetic, so it is as good as these figures: every one that a plan
has used is printed below it with its source, and a run's own summary or the command line may replace it.
"""

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
        """Take the figures.

        Args:
            figures: those that are known.
            formulas: compute what no figure gives; one that is given wins over its formula.
        """
        self._figures = {figure.name: figure for figure in figures}
        self._formulas = {formula.name: formula for formula in formulas}
        self.used: dict[str, Assumption] = {}

    def __getitem__(self, name: str) -> float:
        """Value of a figure, which counts as used from here on.

        Raises:
            SettingError: it follows from a formula that cannot be computed.
        """
        if name not in self._figures:
            formula = self._formulas[name]
            value = formula.compute(self)
            self.used[name] = Assumption(
                name=name, value=value, unit=formula.unit, kind="computed", source=formula.source
            )
            return value
        self.used[name] = self._figures[name]
        return self._figures[name].value

    def replace(self, name: str, value: float, kind: Kind, source: str) -> None:
        """Put another value in the place of a figure or of its formula.

        Raises:
            SettingError: no figure has this name, or the value is below 0 or no finite number.
        """
        known = {formula.name: formula.unit for formula in self._formulas.values()}
        known |= {figure.name: figure.unit for figure in self._figures.values()}
        if name not in known:
            raise SettingError(f"assumption {name!r} is unknown; known: {', '.join(sorted(known))}")
        # NaN fails this comparison too.
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


# Tables of the data file that hold one entry a model or a type of GPU; every other table is one figure.
_TABLES = ("gpu", "teacher", "student")


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((files("dyneval.planning") / "data" / "assumptions.toml").read_text("utf-8"))


def gpus() -> dict[str, dict[str, Any]]:
    """`peak_tflops` (dense bfloat16), `bandwidth_tb` (TB/s) and `memory_gb` of each known type of GPU."""
    return dict(_data()["gpu"])


def load(teacher: str, student: str, gpus: Gpus, formulas: Iterable[Formula]) -> Assumptions:
    """Figures for these models on these GPUs.

    Args:
        teacher: name in the data file, or the repository of such a teacher.
        student: "2b" or "4b".
        gpus: the machines of the plan.
        formulas: for the figures that follow from others.

    Raises:
        SettingError: a name is not in the data file. A teacher without a figure for this type of GPU is no error: its
            `teacher_tokens_per_gpu_second` is then missing, and may be given.
    """
    data = _data()
    by_repository = {entry["repo"]: entry for entry in data["teacher"].values()}
    entry = data["teacher"].get(teacher) or by_repository.get(teacher)
    if entry is None:
        raise SettingError(f"teacher {teacher!r} is unknown; known: {', '.join(data['teacher'])}")
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
    # Published for few pairs of teacher and GPU. The figure of another GPU would be a guess, so none takes its place.
    if rate := entry["tokens_per_gpu_second"].get(gpus.type):
        unit = "tokens/s a GPU, in and out"
        figures.append(Assumption("teacher_tokens_per_gpu_second", rate["value"], unit, "derived", rate["source"]))
    return Assumptions(figures, formulas)
