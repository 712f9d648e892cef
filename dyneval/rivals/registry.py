"""The rivals as data: what each rates, which package computes it, under which licence, and how it is called.

A rival's class and its package are imported when it is loaded, so `dyneval rival --list` needs none of them. A new
rival is one entry of `RIVALS` and a class with `score`, see `LocalRival`. Its `distributions` have to name every
package that changes its scores, or rows of two versions get the same key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from dyneval.errors import SettingError, UserError
from dyneval.extras import install

if TYPE_CHECKING:
    from PIL import Image

Rates = Literal["alignment", "quality", "preference", "alignment and quality"]


class RivalError(UserError, RuntimeError):
    """A rival's package cannot score here; the message has the package's own words."""


class ComputedScore(NamedTuple):
    """The scores that a rival gives a pair.

    Attributes:
        score: higher is better, on the rival's own scale.
        t2ia: of the alignment with the prompt alone, where it rates the two separately.
        iqa: of the quality of the image alone, likewise.
        raw: what the package gave where lower is better there; `score` is then its negative.
        truncated: the prompt was longer than the rival reads; None where that is not known.
    """

    score: float
    t2ia: float | None = None
    iqa: float | None = None
    raw: float | None = None
    truncated: bool | None = None


class LocalRival(Protocol):
    """A metric that computes here. It is made of a model, named as its package names it, and a torch device."""

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Sequence[ComputedScore]:
        """Score images, upright RGB, against one prompt each."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """A metric that DynEval is compared with.

    Attributes:
        title: as in tables.
        rates: what its scores are about.
        scale: range of its scores, as text; where lower was better the sign is turned.
        extra: of dyneval that brings its package.
        distributions: the packages whose versions its scores depend on.
        licence: of code and weights, as their publishers state them.
        source: where it is published.
        call: how its package is called.
        model: default of --model; "" where there is none.
        target: "module:Class" of a `LocalRival`; "" of a judge that is asked over an OpenAI-compatible server.
        batch_size: images at a time.
        options: further arguments of its class.
    """

    title: str
    rates: Rates
    scale: str
    extra: str
    distributions: tuple[str, ...] = ()
    licence: str
    source: str
    call: str
    model: str = ""
    target: str = ""
    batch_size: int = 16
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_chat(self) -> bool:
        """Whether it is asked over a server."""
        return not self.target

    @property
    def versions(self) -> dict[str, str]:
        """Versions of its packages, of those that are here."""
        found = {}
        for name in self.distributions:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                # One metric may come under two names, such as hpsv2 and its fork hpsv2x.
                continue
        return found

    def load(self, name: str, model: str, device: str | None) -> LocalRival:
        """Make the rival on a torch device; None takes a GPU where there is one.

        Raises:
            SettingError: its package is not here, or does not fit what is installed beside it.
        """
        module, _, attribute = self.target.partition(":")
        # Imported by name: a rival whose package is not installed must not stop the others from being listed.
        try:
            made: LocalRival = getattr(import_module(module), attribute)(model, device, **self.options)
        # First: a ModuleNotFoundError is an ImportError, too. The other kind means versions that do not fit together.
        except ModuleNotFoundError as error:
            raise SettingError(f"{name} needs {error.name}, which is not installed: {install(self.extra)}") from error
        except ImportError as error:
            raise SettingError(
                f"{name}: its package does not go with what is installed here ({error}); in an environment of its own: "
                f"{install(self.extra)}"
            ) from error
        return made


_CLIP = "dyneval.rivals.clip:Clip"
RIVALS: dict[str, Rival] = {
    "clipscore": Rival(
        title="CLIPScore",
        target=_CLIP,
        rates="alignment",
        scale="0 to 100",
        extra="local",
        distributions=("transformers",),
        licence="code Apache-2.0, weights MIT",
        source="https://huggingface.co/openai/clip-vit-large-patch14",
        call="transformers' CLIPModel; max(100 cos(image, prompt), 0) as torchmetrics.multimodal.CLIPScore defines it",
        model="openai/clip-vit-large-patch14",
        batch_size=32,
    ),
    "pickscore": Rival(
        title="PickScore",
        target=_CLIP,
        rates="preference",
        scale="about 15 to 25",
        extra="local",
        distributions=("transformers",),
        licence="MIT",
        source="https://github.com/yuvalkirstain/PickScore",
        call="transformers' CLIPModel; exp(logit_scale) cos(image, prompt) as in its README",
        model="yuvalkirstain/PickScore_v1",
        batch_size=16,
        # Its repository holds no processor, and its README takes the one of the model that it was tuned from.
        options={
            "processors": {"yuvalkirstain/PickScore_v1": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"},
            "is_scaled": True,
        },
    ),
    "clip-iqa": Rival(
        title="CLIP-IQA",
        target="dyneval.rivals.quality:ClipIqa",
        rates="quality",
        scale="0 to 1",
        extra="torchmetrics",
        distributions=("torchmetrics", "piq"),
        licence="code Apache-2.0; weights as their model states",
        source="https://lightning.ai/docs/torchmetrics/stable/multimodal/clip_iqa.html",
        call='CLIPImageQualityAssessment(MODEL, data_range=1.0, prompts=("quality",)) on tensors (N, 3, H, W), 0-1',
        model="clip_iqa",
    ),
    "pyiqa": Rival(
        title="pyiqa",
        target="dyneval.rivals.quality:Pyiqa",
        rates="quality",
        scale="of the metric (--model); where lower is better the sign is turned",
        extra="pyiqa",
        distributions=("pyiqa",),
        licence="PolyForm-Noncommercial-1.0.0, parts S-Lab; weights as their metric states",
        source="https://github.com/chaofengc/IQA-PyTorch",
        call="pyiqa.create_metric(MODEL, device=...) on tensors (N, 3, H, W), 0-1; any metric without a reference",
        model="musiq",
    ),
    "imagereward": Rival(
        title="ImageReward",
        target="dyneval.rivals.preference:ImageReward",
        rates="preference",
        scale="about -2 to 2",
        extra="imagereward",
        distributions=("image-reward",),
        licence="Apache-2.0",
        source="https://github.com/THUDM/ImageReward",
        call="ImageReward.load(MODEL, device=...).score_gard(ids, mask, pixels), the batched form of score",
        model="ImageReward-v1.0",
    ),
    "hpsv2": Rival(
        title="HPSv2",
        target="dyneval.rivals.preference:HpsV2",
        rates="preference",
        scale="about 0.15 to 0.35",
        extra="hpsv2",
        distributions=("hpsv2x", "hpsv2"),
        licence="Apache-2.0",
        source="https://github.com/tgxs002/HPSv2",
        call="the model of hpsv2.img_score with the weights of --model (v2.0, v2.1 or a file), loaded once",
        model="v2.1",
    ),
    "hpsv3": Rival(
        title="HPSv3",
        target="dyneval.rivals.preference:HpsV3",
        rates="preference",
        scale="about -10 to 15",
        extra="hpsv3",
        distributions=("hpsv3",),
        licence="MIT",
        source="https://github.com/MizzenAI/HPSv3",
        call="HPSv3RewardInferencer(device=...).reward(image_paths=images, prompts=prompts)[:, 0], the mean",
        batch_size=8,
    ),
    "vqascore": Rival(
        title="VQAScore",
        target="dyneval.rivals.vqascore:VqaScore",
        rates="alignment",
        scale="0 to 1",
        extra="vqascore",
        distributions=("t2v-metrics",),
        licence="code Apache-2.0; weights as their model states",
        source="https://github.com/linzhiqiu/t2v_metrics",
        call="t2v_metrics.VQAScore(model=MODEL, device=...).model.forward(paths, prompts)",
        model="clip-flant5-xxl",
        batch_size=8,
    ),
    "unifiedreward": Rival(
        title="UnifiedReward",
        rates="alignment and quality",
        scale="1 to 5",
        extra="teacher",
        licence="code MIT; weights as their model states",
        source="https://github.com/CodeGoat24/UnifiedReward",
        call="a chat request with the image to a server that has the model (vllm serve); alignment, coherence and "
        "style are read from the reply: t2ia is the first, iqa the second, score the mean of the three",
        model="UnifiedReward",
        batch_size=32,
    ),
    "chat": Rival(
        title="chat judge",
        rates="alignment and quality",
        scale="1 to 5",
        extra="teacher",
        licence="of the model",
        source="any OpenAI-compatible server",
        call="a chat request with the image and a JSON Schema; alignment and quality, score their mean",
        batch_size=32,
    ),
}
"""By name, as on the command line."""
