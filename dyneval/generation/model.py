"""The interface of every text-to-image model: requests in, images or reasons out; and the settings that it records.

    ModelSpec (a table of dyneval/data/models.toml) --build--> ImageModel --generate--> GeneratedImage | NoImage

The rest of Step 2 knows models by this file alone, so a new one needs no change elsewhere. A spec is cheap and can be
listed; only `build` imports libraries and loads weights. `ModelSpec.settings` is recorded with each image and compared
before an image is kept: if it leaves out a choice that changes images, a folder mixes two kinds without a word.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from dyneval.errors import GenerationError, SettingError, did_you_mean
from dyneval.flags import arg
from dyneval.generation.devices import Placement
from dyneval.records import Tier
from dyneval.registry import own
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
        pair_id: names the image, its file and its record.
        prompt_id: of the prompt.
        prompt: as the user wrote it.
        seed: what the model's random generator starts from, below 2**31; a function of prompt, model and base seed.
        tier: of the prompt, 1-3; recorded.
        categories: of the prompt; recorded.
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
        request: what was asked for.
        image: in any mode; transparency is laid on white when it is saved.
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
    """Why there is no image.

    Attributes:
        request: what was asked for.
        reason: for people.
        permanent: the same request would end the same way; it is not sent again, unless --retry-refused asks for it.
        details: what is recorded with the reason, such as the cost of a request that was refused.
    """

    request: ImageRequest
    reason: str
    permanent: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


Outcome = GeneratedImage | NoImage


@dataclass(slots=True)
class RequestedSize:
    """Notes images of another size than was asked for: models round it to a grid, services choose their own.

    Attributes:
        slug: of the model, for the warning.
        size: width and height in pixels; None where none was asked for.
    """

    slug: str
    size: tuple[int, int] | None
    _told: bool = False

    @classmethod
    def of(cls, slug: str, arguments: Mapping[str, Any]) -> RequestedSize:
        """Take the size from a call's arguments: width and height, or image_size, the side of a square."""
        side = arguments.get("image_size")
        width, height = arguments.get("width", side), arguments.get("height", side)
        return cls(slug, (width, height) if isinstance(width, int) and isinstance(height, int) else None)

    def note(self, image: Image.Image) -> dict[str, Any]:
        """Return what is to be recorded with an image; warn the first time, since a run makes thousands of images."""
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
    """One way to run a model: the arguments of its call, and what else differs.

    Attributes:
        arguments: of the model's call, by their names in its library.
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
    """Read NAME=VALUE."""
    name, equals, value = text.partition("=")
    # "stage_1.guidance_scale" names an argument within another one.
    if not equals or not name.replace(".", "_").isidentifier():
        raise SettingError(f"'{text}' is not of the form NAME=VALUE")
    return name, value


def _override(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE with a value of JSON, or a text where it is not JSON."""
    name, value = _part(text)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a text without quotes: nobody types '"auto"' in a shell


def _prices(text: str) -> tuple[float, float]:
    """Read US dollars a million tokens, of input and of output."""
    try:
        given, taken = (float(part) for part in text.split("/"))
    except ValueError:
        raise SettingError(f"'{text}' is not IN/OUT, such as 5/40") from None
    return given, taken


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """Choices of one run that decide what images look like, also as flags; all are recorded and compared on resume.

    Attributes:
        preset: None is the model's default.
        variant: None is the spec's first.
        repo: other weights of the same kind; None is the variant's.
        revision: of the weights; None is the newest, and the commit found is recorded.
        base_seed: another one gives another image of every prompt.
        parts: other weights for parts, by the name of the part.
        overrides: call arguments that replace the preset's; "stage_1.guidance_scale" is one inside another.
        pins: commits by repo that the images of a folder with these settings were made from: they are loaded, even
            where a branch has moved since. They are not part of the settings.
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
    """Choices that change where and how fast a model runs, but not its images; also as flags.

    They are not part of the settings, so a run may go on with others: an image is the same in any batch and placement.

    Attributes:
        batch_size: prompts a call; None is the model's own.
        placement: where weights lie; "auto" measures the free memory.
        concurrency: requests in flight to a hosted API.
        base_url: of a server that speaks a hosted API; None is the vendor's.
        prices: US dollars for a million tokens of input and of output.
        external_env: environment of an external model, or a folder with one for each slug.
    """

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
    """A text-to-image model, described: what its table says. Making one imports no library and loads no weights.

    Attributes:
        family: name of the family in tables.
        family_packages: importable packages that every model of the family needs.
        slug: name in file names, records and on the command line.
        name: for people.
        about: what to know of the model, in a sentence.
        tier: 1 is the strongest; which prompts the model draws.
        presets: by name; "recommended" must be there.
        default_preset: the one that is taken when none is named.
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
        """Whether the model is one of the paper's 36; the tier of the others is ours."""
        return self.paper_score is not None

    def __post_init__(self) -> None:
        # The slug becomes part of file names and of pair_ids, and is typed on the command line.
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.slug):
            raise GenerationError(
                f"{self.slug!r} is not a slug: lower-case letters and digits, joined by single hyphens"
            )
        if not self.variants or "recommended" not in self.presets:
            raise GenerationError(f"{self.slug}: a model needs at least one variant and a recommended preset")

    def preset(self, options: BuildOptions) -> Preset:
        """Return the preset that `options` chose. Raises GenerationError when the model has no such preset."""
        name = options.preset or self.default_preset
        if name not in self.presets:
            raise GenerationError(f"{self.slug}: no preset '{name}'; choose from {', '.join(self.presets)}")
        return self.presets[name]

    def repo(self, options: BuildOptions) -> str:
        """Return the repo id, API id or folder of the weights. Raises GenerationError on an unknown variant."""
        variant = self.variant(options)
        # A variant that is named comes before the preset's repo: a user who names one asks for exactly that.
        of_preset = None if options.variant else self.preset(options).repo
        return options.repo or of_preset or self.variants[variant]

    def variant(self, options: BuildOptions) -> str:
        """Return the name of the chosen checkpoint. Raises GenerationError when the model has no such variant."""
        variant = options.variant or next(iter(self.variants))
        if variant not in self.variants:
            raise GenerationError(f"{self.slug}: no variant '{variant}'; choose from {', '.join(self.variants)}")
        return variant

    def commits(self, options: BuildOptions) -> dict[str, str]:
        """Return the commit, tag or branch of each repo that is not to be the newest one.

        A recorded commit comes before a name for it: a branch may have moved since the folder was begun.
        """
        asked = {self.repo(options): options.revision} if options.revision else {}
        return {**asked, **options.pins}

    def chosen_parts(self, options: BuildOptions) -> dict[str, str]:
        """Return the further weights, as part name -> repo id or folder.

        Raises:
            GenerationError: the model has no such part.
        """
        unknown = [name for name in options.parts if name not in self.parts]
        if unknown:
            raise GenerationError(f"{self.slug}: no part '{unknown[0]}'; it has: {', '.join(self.parts) or 'none'}")
        return {**self.parts, **options.parts}

    def suffix(self, options: BuildOptions) -> str:
        """Return the text that is appended to every prompt."""
        preset = self.preset(options)
        return preset.suffix_by_variant.get(self.variant(options), preset.prompt_suffix)

    def arguments(self, options: BuildOptions) -> dict[str, Any]:
        """Return the keyword arguments of the model's call: the preset's, the variant's, then the overrides."""
        preset = self.preset(options)
        arguments = {**preset.arguments, **preset.by_variant.get(self.variant(options), {})}
        for name, value in _named_fully(options.overrides, arguments).items():
            outer, _, inner = name.partition(".")
            arguments[outer] = {**arguments.get(outer, {}), inner: value} if inner else value
        return arguments

    def check(self, options: BuildOptions) -> None:
        """Look whether the model reads what `options` sets. At most a library is imported, no weights are loaded.

        Some pipelines of diffusers, such as StableDiffusionXLPipeline, take any keyword: a misspelt one would change
        nothing and be recorded as if it did.

        Raises:
            GenerationError: there is no such preset, variant or part, an argument has a name that the model does not
                read, or a value of another kind than the preset's.
        """
        self.settings(options)
        if not options.overrides:
            return
        ours = self.arguments(replace(options, overrides={}))
        known = _named_fully(ours, ours)
        of_presets = [item for preset in self.presets.values() for item in preset.arguments.items()]
        flat = {name for name, value in of_presets if not isinstance(value, Mapping)}
        names = {*known, *flat, *self.reads(options)}
        for name, value in _named_fully(options.overrides, ours).items():
            if name not in names:
                raise GenerationError(f"{self.slug} does not read '{name}'; {did_you_mean(name, sorted(names))}")
            # Of the preset's type, or a whole number where it has a fraction; True is an int to Python, but no number.
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            fits = (
                name not in known or type(value) is type(known[name]) or (isinstance(known[name], float) and is_number)
            )
            if not fits:
                raise GenerationError(f"{self.slug}: {name} is {known[name]!r} in the preset; it cannot be {value!r}")

    def reads(self, options: BuildOptions) -> Iterable[str]:
        """Return the names of arguments that the model's call reads beside those of its presets."""
        return ()

    def settings(self, options: BuildOptions) -> dict[str, Any]:
        """Return what was asked for, as JSON values: recorded with each image, compared before one is skipped.

        A change of the result makes every folder that was begun stop with "made with other settings".
        """
        sampling = self.sampling.get(self.variant(options))
        return {
            "family": self.family,
            "repo": self.repo(options),
            "requested_revision": options.revision,
            # The weights are the preset's own then, and of no variant.
            "variant": self.variant(options) if options.variant or not self.preset(options).repo else None,
            "parts": self.chosen_parts(options),
            "preset": options.preset or self.default_preset,
            "prompt_suffix": self.suffix(options),
            "base_seed": options.base_seed,
            "arguments": self.arguments(options),
            # Only where it is not the first way: records of before this entry keep their fingerprints.
            **({"sampling": sampling} if sampling else {}),
        }

    def named_class(self, name: str) -> Any:
        """Return a class by its name: "Class" beside the spec's own, "module:Class" anywhere. Raises SettingError."""
        return own(name if ":" in name else f"{type(self).__module__}:{name}", f"model {self.slug}")

    def missing_packages(self) -> list[str]:
        """Return the packages that the model needs and that are not installed, as pip calls them."""
        missing = []
        for name in (*self.family_packages, *self.packages):
            try:
                found = importlib.util.find_spec(name)
            except ModuleNotFoundError:  # of "google.genai" not even "google" is there
                found = None
            if found is None:
                missing.append(name.replace(".", "-"))
        return missing

    def obstacles(self, run: RunOptions) -> list[str]:
        """Return what keeps this machine from running the model, as short texts; nothing is loaded to find out."""
        missing = self.missing_packages()
        return [*([install_command(missing)] if missing else []), *self.gates()]

    def gates(self) -> list[str]:
        """Return the licence that nobody can have accepted on this machine, since it has no token of the Hub."""
        # Where huggingface_hub is missing, it is listed among the missing packages; only it can read the token.
        if not self.gated or importlib.util.find_spec("huggingface_hub") is None:
            return []

        from huggingface_hub import get_token

        return ["accept the licence, then: hf auth login"] if get_token() is None else []

    @abstractmethod
    def build(self, options: BuildOptions, run: RunOptions, device: str) -> ImageModel:
        """Load the model.

        Args:
            options: what images look like.
            run: where and how fast they are made.
            device: "cuda:0", "cpu".

        Raises:
            GenerationError: a package, key, licence or file is missing; the message says which.
        """


def _named_fully(values: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by full name: one inside a value that is a table in the preset as "stage_1.guidance_scale"."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(preset.get(name), Mapping):
            found |= {f"{name}.{inner}": content for inner, content in value.items()}
        else:
            found[name] = value
    return found


def install_command(packages: Sequence[str]) -> str:
    """Return the command that installs packages beside the torch that is here.

    torchvision must fit torch: another one brings another torch along, or does not load.
    """
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = ""
    # torchvision 0.15 came with torch 2.0, and its minor version has gone up with torch's since.
    numbers = re.match(r"2\.(\d+)", torch)
    words = [
        f"torchvision~=0.{int(numbers[1]) + 15}.0" if name == "torchvision" and numbers else name for name in packages
    ]
    if "torchvision" in packages and torch.endswith("+cpu"):
        words.append("--extra-index-url https://download.pytorch.org/whl/cpu")
    return f"pip install {' '.join(words)}"
