"""The one interface that every text-to-image model has here: batches of requests in, outcomes out.

    ModelSpec (a table of dyneval/data/models.toml) --build--> ImageModel --generate--> GeneratedImage | NoImage

A spec is cheap and can be listed; only `build` imports libraries and loads weights.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from dyneval.errors import GenerationError, SettingError, did_you_mean
from dyneval.flags import arg
from dyneval.generation.devices import Placement
from dyneval.records import Tier
from dyneval.work.executors import WorkerBroken

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

PresetName = Literal["recommended", "paper"]
PRESET_NAMES: tuple[PresetName, ...] = ("recommended", "paper")


ENVIRONMENTS = Path("envs")
"""Where the environments of external models are looked for, and made."""


class BatchTooLarge(RuntimeError):
    """The device ran out of memory on this batch; a smaller one may do."""


class ModelBroken(WorkerBroken):
    """The model cannot make any further image (dead device, rejected key, exited worker)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRequest:
    """One image to make.

    Attributes:
        seed: what the model's random generator starts from, below 2**31; a function of prompt, model and base seed.
    """

    pair_id: str
    prompt_id: str
    prompt: str
    seed: int
    tier: Tier
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratedImage:
    """An image as the model returned it.

    Attributes:
        prompt_sent: the text the model was given, after suffixes, templates or rewriting.
        seconds: time the model took, divided by the batch.
        seeded: False when the model takes no seed; none is recorded then.
        safety: the model's own safety flag; None where it has none. A flagged image is not kept.
        sidecars: files to lie beside the image, as suffix (".truth.json") -> content.
        details: what is recorded about this image alone: cost, token usage, rewritten prompt.
    """

    request: ImageRequest
    image: Image.Image
    prompt_sent: str
    seconds: float
    seeded: bool = True
    safety: bool | None = None
    sidecars: Mapping[str, bytes] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoImage:
    """Why there is no image. `permanent` means that the same request would end the same way: it is not sent again."""

    request: ImageRequest
    reason: str
    permanent: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


Outcome = GeneratedImage | NoImage


class RequestedSize:
    """Notes images of another size than was asked for: models round it to a grid, services choose their own."""

    def __init__(self, slug: str, size: tuple[int, int] | None) -> None:
        """`size`: width and height; None where none was asked for."""
        self.slug = slug
        self.size = size
        self._told = False

    @classmethod
    def of(cls, slug: str, arguments: Mapping[str, Any]) -> RequestedSize:
        """The size in a call's arguments: width and height, or image_size, the side of a square."""
        side = arguments.get("image_size")
        width, height = arguments.get("width", side), arguments.get("height", side)
        return cls(slug, (width, height) if isinstance(width, int) and isinstance(height, int) else None)

    def note(self, image: Image.Image) -> dict[str, Any]:
        """What is to be recorded with an image; the first time a warning, too."""
        if self.size in (None, image.size):
            return {}
        if not self._told:
            self._told = True
            log.warning("%s draws %dx%d, not %dx%d as asked for", self.slug, *image.size, *(self.size or ()))
        return {"asked_size": list(self.size or ())}


class ImageModel(Protocol):
    """A loaded model, ready to draw."""

    batch_size: int
    """Largest batch that `generate` should get."""
    facts: Mapping[str, Any]
    """What was found out while loading and is recorded with each image: revision, versions, dtype, device."""

    def generate(self, batch: Sequence[ImageRequest]) -> Iterator[Outcome]:
        """Yield one outcome for each request, in any order, as they come.

        Raises:
            BatchTooLarge: out of memory; requests without an outcome are tried again in smaller batches.
            ModelBroken: no request can succeed any more.
        """
        ...

    def close(self) -> None:
        """Free the device, end worker processes."""
        ...


@dataclass(frozen=True, slots=True)
class Preset:
    """One way to run a model: `arguments` of its call, and more.

    Attributes:
        note: what to know about it, above all where the published script used other weights or settings.
        source: where the arguments are said: repository with commit and line, model card, documentation.
        date: day on which somebody looked there last.
        by_variant: what a variant changes in `arguments`: a distilled checkpoint needs fewer steps.
        repo: weights or API id in the place of the first variant's; a variant that is named comes before it.
        pipeline: class that runs the model, when it differs from the spec's.
        dtype: in which weights are loaded on a GPU, when it differs from the spec's.
        prompt_suffix: text appended to every prompt; the record keeps the prompt that was sent.
        suffix_by_variant: what variants append in its place.
    """

    arguments: Mapping[str, Any]
    note: str = ""
    source: str = ""
    date: datetime.date | None = None
    by_variant: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    repo: str | None = None
    pipeline: str | None = None
    dtype: str | None = None
    prompt_suffix: str = ""
    suffix_by_variant: Mapping[str, str] = field(default_factory=dict)


def _part(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.replace(".", "_").isidentifier():
        raise SettingError(f"'{text}' is not of the form NAME=VALUE")
    return name, value


def _override(text: str) -> tuple[str, Any]:
    name, value = _part(text)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _prices(text: str) -> tuple[float, float]:
    try:
        given, taken = (float(part) for part in text.split("/"))
    except ValueError:
        raise SettingError(f"'{text}' is not IN/OUT, such as 5/40") from None
    return given, taken


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """Choices of one run that decide what images look like, also as flags; all are recorded and compared on resume.

    Attributes:
        variant: None is the spec's first.
        revision: None is the newest, and the commit found is recorded.
        preset: None is the model's default.
        parts: by the name of the part.
        overrides: call arguments that replace the preset's; "stage_1.guidance_scale" is one inside another.
        pins: commits by repo that the images of a folder with these settings were made from: they are loaded, even
            where a branch has moved since. They are no setting of their own.
    """

    preset: Annotated[PresetName | None, arg("authors' recommendation or the published scripts' settings")] = None
    variant: Annotated[str | None, arg("which of the model's checkpoints")] = None
    repo: Annotated[str | None, arg("other weights: a repo id or a folder")] = None
    revision: Annotated[str | None, arg("commit, tag or branch of the weights")] = None
    base_seed: Annotated[int, arg("changes the seed of every image")] = 0
    parts: Annotated[
        Mapping[str, str], arg("other weights for a part of it", flag="part", metavar="NAME=REPO", parse=_part)
    ] = field(default_factory=dict)
    overrides: Annotated[
        Mapping[str, Any], arg("replace a call argument", flag="set", metavar="NAME=VALUE", parse=_override)
    ] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Choices that change where and how fast a model runs, but not its images; also as flags."""

    batch_size: Annotated[
        int | None, arg("prompts a call (default: the model's own); halved when memory runs out", ge=1)
    ] = None
    placement: Annotated[Literal["auto", Placement], arg("where weights lie; auto measures what fits")] = "auto"
    concurrency: Annotated[int, arg("requests in flight to a hosted API", ge=1)] = 8
    base_url: Annotated[str | None, arg("another server that speaks the hosted API")] = None
    prices: Annotated[
        tuple[float, float] | None,
        arg("US dollars a million tokens; records what each image cost", metavar="IN/OUT", parse=_prices),
    ] = None
    external_env: Annotated[Path, arg("environment of an external model, or folder with one for each slug")] = (
        ENVIRONMENTS
    )


@dataclass(frozen=True, kw_only=True)
class ModelSpec(ABC):
    """A text-to-image model, described; importing one loads nothing heavy.

    Attributes:
        slug: name in file names, records and on the command line.
        about: what to know of the model, in a sentence.
        variants: checkpoints by name, the first is the default: name -> repo id or API id.
        parts: further weights that the model needs: part name -> repo id.
        packages: importable packages that the model needs beyond those of its family.
        memory_gib: rough GPU memory with all weights resident; 0 where no GPU is used.
        licence: licence of the weights, and "gated" where it must be accepted first.
        batch_size: prompts a call, when nothing else is asked for.
        batches: False where an image would depend on the others of its batch; then every call gets one prompt.
        sampling: by variant, the number of the way in which seeds become images here, where that is not the first one:
            it is part of the settings, for other images of the same arguments.
        paper_score: overall score that the paper gives it, 0-1.
        tier_reason: of a model that the paper does not have, why it is in this tier.
    """

    family: ClassVar[str]
    family_packages: ClassVar[tuple[str, ...]] = ()
    slug: str
    name: str
    about: str = ""
    tier: Tier
    variants: Mapping[str, str]
    presets: Mapping[PresetName, Preset]
    default_preset: PresetName = "recommended"
    parts: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    memory_gib: float = 0
    licence: str = ""
    gated: bool = False
    batch_size: int = 1
    batches: bool = True
    sampling: Mapping[str, int] = field(default_factory=dict)
    paper_score: float | None = None
    tier_reason: str = ""

    @property
    def in_paper(self) -> bool:
        """Whether it is one of the paper's 36 models; the tier of the others is ours."""
        return self.paper_score is not None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.slug):
            raise GenerationError(f"{self.slug!r} is no slug: lower-case letters and digits, joined by single hyphens")
        if not self.variants or "recommended" not in self.presets:
            raise GenerationError(f"{self.slug}: a model needs at least one variant and a recommended preset")

    def preset_name(self, options: BuildOptions) -> PresetName:
        """Name of the preset that `options` chose. Raises GenerationError when the model has no such preset."""
        name = options.preset or self.default_preset
        if name not in self.presets:
            raise GenerationError(f"{self.slug}: no preset '{name}'; choose from {', '.join(self.presets)}")
        return name

    def preset(self, options: BuildOptions) -> Preset:
        """The preset that `options` chose. Raises GenerationError when the model has no such preset."""
        return self.presets[self.preset_name(options)]

    def repo(self, options: BuildOptions) -> str:
        """Repo id, API id or folder of the weights. Raises GenerationError on an unknown variant."""
        variant = self.variant(options)
        return options.repo or self._preset_repo(options) or self.variants[variant]

    def _preset_repo(self, options: BuildOptions) -> str | None:
        return None if options.variant else self.preset(options).repo

    def variant(self, options: BuildOptions) -> str:
        """Name of the chosen checkpoint. Raises GenerationError when the model has no such variant."""
        variant = options.variant or next(iter(self.variants))
        if variant not in self.variants:
            raise GenerationError(f"{self.slug}: no variant '{variant}'; choose from {', '.join(self.variants)}")
        return variant

    def commits(self, options: BuildOptions) -> dict[str, str]:
        """Commit, tag or branch of each repo that is not to be the newest; a commit comes before a name for it."""
        asked = {self.repo(options): options.revision} if options.revision else {}
        return {**asked, **options.pins}

    def chosen_parts(self, options: BuildOptions) -> dict[str, str]:
        """Further weights under `options`. Raises GenerationError when the model has no such part."""
        unknown = [name for name in options.parts if name not in self.parts]
        if unknown:
            raise GenerationError(f"{self.slug}: no part '{unknown[0]}'; it has: {', '.join(self.parts) or 'none'}")
        return {**self.parts, **options.parts}

    def suffix(self, options: BuildOptions) -> str:
        """Text that is appended to every prompt."""
        preset = self.preset(options)
        return preset.suffix_by_variant.get(self.variant(options), preset.prompt_suffix)

    def arguments(self, options: BuildOptions) -> dict[str, Any]:
        """Keyword arguments of the model's call under `options`."""
        arguments = self._of_preset(self.preset(options), options)
        for name, value in _named_fully(options.overrides, arguments).items():
            outer, _, inner = name.partition(".")
            arguments[outer] = {**arguments.get(outer, {}), inner: value} if inner else value
        return arguments

    def _of_preset(self, preset: Preset, options: BuildOptions) -> dict[str, Any]:
        return {**preset.arguments, **preset.by_variant.get(self.variant(options), {})}

    def check(self, options: BuildOptions) -> None:
        """Look whether the model reads what `options` sets; nothing is loaded but, for that, a library.

        Raises:
            GenerationError: there is no such preset, variant or part, an argument has a name that the model does not
                read, or a value of another kind than the preset's.
        """
        self.settings(options)
        if not options.overrides:
            return
        ours = self._of_preset(self.preset(options), options)
        known = _named_fully(ours, ours)
        flat = {name for preset in self.presets.values() for name, value in preset.arguments.items() if _is_flat(value)}
        names = {*known, *flat, *self.reads(options)}
        for name, value in _named_fully(options.overrides, ours).items():
            if name not in names:
                raise GenerationError(f"{self.slug} does not read '{name}'; {did_you_mean(name, sorted(names))}")
            if name in known and not _is_alike(value, known[name]):
                raise GenerationError(f"{self.slug}: {name} is {known[name]!r} in the preset; it cannot be {value!r}")

    def reads(self, options: BuildOptions) -> Iterable[str]:
        """Names of arguments that the model's call reads beside those of its presets."""
        return ()

    def settings(self, options: BuildOptions) -> dict[str, Any]:
        """What was asked for: recorded with each image and compared before an existing one is skipped."""
        sampling = self.sampling.get(self.variant(options))
        return {
            "family": self.family,
            "repo": self.repo(options),
            "requested_revision": options.revision,
            "variant": None if self._preset_repo(options) else self.variant(options),
            "parts": self.chosen_parts(options),
            "preset": self.preset_name(options),
            "prompt_suffix": self.suffix(options),
            "base_seed": options.base_seed,
            "arguments": self.arguments(options),
            **({"sampling": sampling} if sampling else {}),
        }

    def named_class(self, name: str) -> Any:
        """A class by its name: "Class" beside the spec's own, "module:Class" anywhere."""
        module, _, attribute = name.rpartition(":")
        return getattr(importlib.import_module(module or type(self).__module__), attribute)

    def missing_packages(self) -> list[str]:
        """Packages that the model needs and that are not installed, as pip calls them."""
        needed = (*self.family_packages, *self.packages)
        return [name.replace(".", "-") for name in needed if not _importable(name)]

    def obstacles(self, run: RunOptions) -> list[str]:
        """What keeps this machine from running the model, as short texts; nothing is loaded to find out."""
        missing = self.missing_packages()
        return [install_command(missing)] if missing else []

    def gates(self) -> list[str]:
        """The licence that nobody has accepted on this machine, as far as that can be told: there is no token."""
        if not _importable("huggingface_hub"):
            return []  # it is among the missing packages, and holds the token

        from huggingface_hub import get_token

        return ["accept the licence, then: hf auth login"] if self.gated and get_token() is None else []

    @abstractmethod
    def build(self, options: BuildOptions, run: RunOptions, device: str) -> ImageModel:
        """Load the model onto `device` ("cuda:0", "cpu").

        Raises:
            GenerationError: a package, key, licence or file is missing; the message says which.
        """


def _named_fully(values: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """Values; those inside of a value that is a table in the preset under names such as "stage_1.guidance_scale"."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(preset.get(name), Mapping):
            found |= {f"{name}.{inner}": content for inner, content in value.items()}
        else:
            found[name] = value
    return found


def _is_flat(value: Any) -> bool:
    return not isinstance(value, Mapping)


def _is_alike(value: Any, preset: Any) -> bool:
    """Whether a value can stand in the place of a preset's: of its type, or a whole number for a fraction."""
    if isinstance(preset, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(preset)


def install_command(packages: Sequence[str]) -> str:
    """What installs packages beside the torch that is here: another torchvision would bring another torch, or break."""
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = ""
    numbers = re.match(r"2\.(\d+)", torch)
    words = [
        f"torchvision~=0.{int(numbers[1]) + 15}.0" if name == "torchvision" and numbers else name for name in packages
    ]
    if "torchvision" in packages and torch.endswith("+cpu"):
        words.append("--extra-index-url https://download.pytorch.org/whl/cpu")
    return f"pip install {' '.join(words)}"


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
