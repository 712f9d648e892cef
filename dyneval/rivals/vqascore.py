"""VQAScore of t2v_metrics (Lin et al. 2024): how probable "Yes" is when a VLM is asked if the image shows the prompt.

Release 3.0 has the models of the paper, CLIP-FlanT5 among them; 3.1 has Qwen3-VL and others. Which models there are is
asked of the installed release.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dyneval.errors import SettingError, did_you_mean
from dyneval.rivals.registry import ComputedScore
from dyneval.rivals.tensors import device_of

if TYPE_CHECKING:
    from PIL import Image


class VqaScore:
    """A model of t2v_metrics."""

    def __init__(self, model: str, device: str | None) -> None:
        """Load `model`.

        Raises:
            SettingError: the installed release has no model of that name, or finds no ffmpeg.
        """
        try:
            import t2v_metrics
        # On import it looks for ffmpeg, though images need none, and raises where there is none.
        except RuntimeError as error:
            raise SettingError(f"vqascore: {' '.join(str(error).split())}") from error
        from huggingface_hub.constants import HF_HUB_CACHE

        # The package has other metrics as well; their models do not compute a VQAScore.
        known = t2v_metrics.list_all_vqascore_models()
        if model not in known:
            raise SettingError(f"--model {model}: not in this release of t2v_metrics; {did_you_mean(model, known)}")
        # Its own default is a folder below the current one.
        scorer = t2v_metrics.VQAScore(model=model, device=str(device_of(device)), cache_dir=HF_HUB_CACHE)
        self.model: Any = scorer.model

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[ComputedScore]:
        """Score images against one prompt each."""
        with TemporaryDirectory(prefix="dyneval-vqascore-") as folder:
            # It takes paths alone. These files have the pixels that all rivals see: upright, RGB, checked.
            paths = [str(Path(folder, f"{place}.png")) for place in range(len(images))]
            for path, image in zip(paths, images, strict=True):
                image.save(path, compress_level=1)
            return [ComputedScore(value) for value in self.model.forward(paths, list(prompts)).reshape(-1).tolist()]
