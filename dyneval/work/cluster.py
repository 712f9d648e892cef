"""The flags of every step that runs on Ray, and what they become. Light: imported by `--help`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from dyneval.errors import SettingError


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Where work is sent, and in what portions.

    Attributes:
        address: of a running Ray cluster; "" finds one (RAY_ADDRESS, or one on this machine) or starts one here.
        actors: how many actors; each loads its own model.
        gpus: GPUs that Ray reserves for each actor.
        batch: items a task; an actor that dies loses the task that it was at, which is done again.
    """

    address: str = ""
    actors: int = 1
    gpus: float = 0
    batch: int = 16


def add_cluster(parser: argparse.ArgumentParser, items: str, gpus: float, batch: int) -> None:
    """Add the flags; `items` is what a task consists of, `gpus` and `batch` are the step's defaults."""
    add = parser.add_argument_group(
        "Ray (extra ray; inputs and outputs lie where all machines see them under the same path)"
    ).add_argument
    add(
        *("--ray",),
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="work on a Ray cluster, such as ray-head:6379; without an address: the one at hand, else this machine",
    )
    add("--ray-actors", type=int, default=1, metavar="N", help="actors, each with a model; default: %(default)s")
    add("--ray-gpus", type=float, default=gpus, metavar="N", help="GPUs an actor; default: %(default)s")
    add("--ray-batch", type=int, default=batch, metavar="N", help=f"{items} a task; default: %(default)s")


def cluster_of(arguments: argparse.Namespace) -> Cluster | None:
    """The cluster that the arguments describe, None without --ray. Raises SettingError."""
    if arguments.ray is None:
        return None
    if arguments.ray_actors < 1 or arguments.ray_batch < 1 or arguments.ray_gpus < 0:
        raise SettingError("--ray-actors and --ray-batch: expected at least 1; --ray-gpus: at least 0")
    return Cluster(
        address=arguments.ray, actors=arguments.ray_actors, gpus=arguments.ray_gpus, batch=arguments.ray_batch
    )
