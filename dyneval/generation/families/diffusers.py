"""Models that diffusers runs: a table names the pipeline and, where the model needs it, a class of this file.

`DiffusersModel` loads, places and calls a pipeline; the classes below it hold what is special to one model, each with
the reason. Every image has its own generator, so that it comes out the same in any batch. With tiny weights no channel
of a pixel differs by more than 2 of 255 (`image_gen_scripts/TRIED.md`); a model whose images depend on their batch says
`batches = false` in its table.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from dyneval.errors import GenerationError, did_you_mean
from dyneval.generation.devices import choose_placement
from dyneval.generation.families.local import LocalModel, LocalSpec
from dyneval.generation.families.transformers import SeededSampling
from dyneval.generation.families.weights import component_bytes
from dyneval.generation.model import BuildOptions, ImageRequest, RunOptions, install_command

log = logging.getLogger(__name__)

NOT_TO_BE_SET = re.compile(r"^(self|prompt.*|generator|return_dict)$|embeds|mask|latents|image|callback|output")
"""Parameters of a call that are ours to set, or hold tensors."""


class DiffusersModel(LocalModel):
    """A loaded pipeline, or several that hand an image on."""

    spec: DiffusersSpec
    weight_attributes: ClassVar[tuple[str, ...]] = ("pipeline", "refiners", "pipelines")
    own_arguments: ClassVar[bool] = False
    """Whether the model takes arguments in a form of its own, not those of the pipeline's call."""
    rewriting: ClassVar[str | None] = None
    """Argument of the call that has the pipeline rewrite prompts. `wording` does it instead, so the call must not."""

    def set_up(self) -> str:
        """Load the pipeline, finish it, place it and what `prepare` added; returns where the first one lies."""
        self.pipeline: Any = self.weights.load(
            self.spec.pipeline_class(self.options),
            self.repo,
            dtype=self.weights.dtype,
            **self.spec.load,
            **self.components(),
        )
        self.refiners: list[Any] = []
        self.prepare()
        self.pipelines = [self.pipeline, *self.refiners]
        placements = []
        # Placed when all are loaded, so that each knows how many share the device.
        for pipeline in self.pipelines:
            pipeline.set_progress_bar_config(disable=True)
            sizes = component_bytes(pipeline.components).values()
            placement = choose_placement(sizes, self.device, self.run.placement, len(self.pipelines))
            if placement == "resident":
                pipeline.to(self.device)
            elif placement == "model_offload":
                pipeline.enable_model_cpu_offload(device=self.device)
            else:
                pipeline.enable_sequential_cpu_offload(device=self.device)
            placements.append(placement)
        return placements[0]

    def components(self) -> dict[str, Any]:
        """Load parts of the pipeline that its repo leaves out; returns them by their names in the pipeline."""
        return {}

    def prepare(self) -> None:
        """Finish the loaded pipeline before it is placed, and put into `refiners` those that refine its images.

        A part called "lora" is loaded into it; the variant names the file.
        """
        if "lora" not in self.parts:
            return
        repo, name = self.parts["lora"], f"{self.spec.variant(self.options)}.safetensors"
        with self.weights.reading(repo) as revision:
            self.pipeline.load_lora_weights(repo, weight_name=name, **revision)

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Call the pipeline once."""
        # A scheduler that adds noise at every step takes it from the images' own generators. Some pipelines hand it
        # none (HiDream's in diffusers 0.42), and it would draw from the global one, for the whole batch at once: an
        # image would then depend on the others of its batch.
        scheduler = self.pipeline.scheduler
        takes_noise = "generator" in inspect.signature(scheduler.step).parameters
        if takes_noise:
            scheduler.step = partial(scheduler.step, generator=generators)
        try:
            # A copy: some pipelines write their chat template into the list they are given.
            output = self.pipeline(prompt=list(prompts), generator=generators, **self.call_arguments(prompts))
        finally:
            if takes_noise:
                del scheduler.step  # the class's own shows again
        flags = getattr(output, "nsfw_content_detected", None)
        return output.images, list(flags) if flags else [None] * len(prompts)

    def call_arguments(self, prompts: list[str]) -> dict[str, Any]:
        """Return the call's arguments for these prompts: a negative prompt must be as many as they are."""
        arguments = dict(self.arguments)
        if self.rewriting:
            arguments[self.rewriting] = False
        if isinstance(arguments.get("negative_prompt"), str):
            arguments["negative_prompt"] = [arguments["negative_prompt"]] * len(prompts)
        return arguments

    def sent(self, prompt: str) -> str:
        """Return the prompt as the pipeline's own text preprocessing leaves it: in lower case, often."""
        preprocess = getattr(self.pipeline, "_text_preprocessing", None)
        if preprocess is None:
            return prompt
        asked = inspect.signature(type(self.pipeline).__call__).parameters.get("clean_caption")
        cleans = self.arguments.get("clean_caption", asked.default if asked else False)
        return preprocess(prompt, clean_caption=cleans)[0]


class Fibo(DiffusersModel):
    """FIBO reads JSON, which a second model writes from the prompt.

    The JSON is written from the image's own seed, and the record calls it the prompt that was sent.
    """

    weight_attributes = (*DiffusersModel.weight_attributes, "writer")

    def prepare(self) -> None:
        """Load the model that writes JSON: blocks of a modular pipeline, code and all."""
        from diffusers import ModularPipelineBlocks
        from huggingface_hub import snapshot_download

        repo = self.parts["prompt_to_json"]
        with self.weights.reading(repo) as revision, tempfile.TemporaryDirectory() as folder:
            # diffusers 0.42 refuses requirements that are a list, as this repo has them. Its code is copied without
            # them; a package that is missing is named when the code imports it.
            code, commit = ["*.py", "*.json"], revision.get("revision")
            is_folder = Path(repo).is_dir()
            source = Path(repo if is_folder else snapshot_download(repo, allow_patterns=code, revision=commit))
            for path in (path for pattern in code for path in source.glob(pattern)):
                shutil.copy(path, folder)
            config = Path(folder, "modular_config.json")
            if config.exists():
                kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "requirements"}
                config.write_text(json.dumps(kept))
            # ModularPipeline.from_pretrained asks for modular_model_index.json, which a repo of blocks does not have.
            blocks: Any = ModularPipelineBlocks
            self.writer = blocks.from_pretrained(Path(folder), trust_remote_code=True).init_pipeline()
        log.info("%s: the prompts are written by code of %s at %s", self.spec.slug, repo, self.weights.commits[repo])

    def wording(self, request: ImageRequest) -> str:
        """Return the prompt as JSON."""
        return self.writer(prompt=request.prompt).values["json_prompt"]

    def call_arguments(self, prompts: list[str]) -> dict[str, Any]:
        """Return them with a negative prompt where the JSON asks for a photograph, if the preset has one."""
        arguments = super().call_arguments(prompts)
        if arguments.pop("photograph_negative_prompt", None) is None:
            return arguments
        return {**arguments, "negative_prompt": [self._negative(prompt) for prompt in prompts]}

    def noted(self, prompt: str) -> dict[str, Any]:
        """Return the negative prompt, which differs from image to image."""
        return {"negative_prompt": self._negative(prompt)} if "photograph_negative_prompt" in self.arguments else {}

    def _negative(self, prompt: str) -> str:
        """Return the negative prompt of one image, by the authors' rule (Bria-AI/FIBO, generate.py)."""
        try:
            medium = str(json.loads(prompt).get("style_medium", "")).lower()
        except (ValueError, AttributeError):  # not JSON, or not an object: a model wrote it
            medium = ""
        is_photograph = medium in ("photograph", "photography", "photo")
        return self.arguments["photograph_negative_prompt"] if is_photograph else ""


class Fibo2(Fibo):
    """FIBO 2 reads JSON without blanks, as it was trained on."""

    def wording(self, request: ImageRequest) -> str:
        """Return the prompt as compact JSON; what the model wrote in another form stays as it is, as in FIBO."""
        written = super().wording(request)
        try:
            return json.dumps(json.loads(written), separators=(",", ":"), ensure_ascii=False)
        except (ValueError, RecursionError):
            return written


class HiDream(DiffusersModel):
    """HiDream-I1 takes Llama for its fourth text encoder, which its repo leaves out."""

    def components(self) -> dict[str, Any]:
        """Load the fourth text encoder and its tokenizer."""
        from transformers import AutoTokenizer, LlamaForCausalLM

        tokenizer = self.weights.load(AutoTokenizer, self.parts["llama"])
        # The pipeline reads the hidden states of all layers, which a Llama returns only when it is told to.
        more = {"dtype": self.weights.dtype, "output_hidden_states": True, "output_attentions": True}
        encoder = self.weights.load(LlamaForCausalLM, self.parts["llama"], **more)
        return {"tokenizer_4": tokenizer, "text_encoder_4": encoder}


class LongCat(DiffusersModel):
    """Rewrites before the call, from the image's own seed: inside the call the text would be lost and unseeded."""

    rewriting = "enable_prompt_rewrite"

    def wording(self, request: ImageRequest) -> str:
        """Return the prompt as the text encoder rewrites it."""
        if not self.arguments["enable_prompt_rewrite"]:
            return request.prompt
        return self.pipeline.rewire_prompt(request.prompt, self.device)[0]


class ErnieImage(DiffusersModel):
    """Rewrites before the call, from the image's own seed, as `LongCat` does and for its reasons."""

    rewriting = "use_pe"

    def wording(self, request: ImageRequest) -> str:
        """Return the prompt as the prompt enhancer of the repo rewrites it."""
        if not self.arguments["use_pe"]:
            return request.prompt
        size = {name: self.arguments[name] for name in ("width", "height")}
        return self.pipeline._enhance_prompt_with_pe(request.prompt, self.device, **size)


class QwenImage(DiffusersModel):
    """Appends the suffix, where there is one, in the prompt's own language."""

    def wording(self, request: ImageRequest) -> str:
        """Return the prompt with its suffix, the Chinese one after Chinese text."""
        suffix = self.spec.suffix(self.options)
        # Both suffixes are the authors' (QwenLM/Qwen-Image, README); a preset holds one suffix.
        if suffix and re.search("[\u4e00-\u9fff]", request.prompt):
            suffix = ", 超清，4K，电影级构图."
        return request.prompt + suffix


class GlmImage(DiffusersModel):
    """Samples its image tokens from the image's own generator: from the global one they would differ by device."""

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Call the pipeline, whose token model takes the largest of scores that noise was added to (SeededSampling)."""
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        encoder = self.pipeline.vision_language_encoder
        asked, generate = encoder.generation_config, encoder.generate
        most = 50 if asked.top_k is None else asked.top_k  # what the library takes where a model says nothing
        warpers = [
            TemperatureLogitsWarper(float(asked.temperature or 1.0)),
            *([TopKLogitsWarper(most)] if most else []),
            TopPLogitsWarper(asked.top_p or 1.0),
        ]
        processors = LogitsProcessorList([*warpers, SeededSampling(generators)])

        def seeded(**arguments: Any) -> Any:
            return generate(**{**arguments, "do_sample": False, "logits_processor": processors})

        encoder.generate = seeded
        try:
            return super().draw(prompts, generators)
        finally:
            del encoder.generate


class Sana(DiffusersModel):
    """Records the instruction that the pipeline puts before the prompt."""

    def sent(self, prompt: str) -> str:
        """Return instruction and prompt."""
        parameters = inspect.signature(type(self.pipeline).__call__).parameters
        instruction = self.arguments.get("complex_human_instruction", parameters["complex_human_instruction"].default)
        return "\n".join(instruction or ()) + super().sent(prompt)


class DeepFloyd(DiffusersModel):
    """A cascade: stage I draws 64x64, II makes it 256x256, III 1024x1024; arguments are given for each stage.

    The safety checker of stage I judges what the last stage draws, as in the authors' example; handed on as tensors,
    the images of the first two are judged by none. The watermarker, too, works on the last stage.
    """

    own_arguments = True

    def components(self) -> dict[str, Any]:
        """Load the safety checker, if the repo has one, by a class that the library can load."""
        from diffusers import IFPipeline

        with self.weights.reading(self.repo) as revision:
            index = IFPipeline.load_config(self.repo, **revision)
        if not (index.get("safety_checker") or [None])[0]:
            return {}
        only = {name: value for name, value in self.spec.load.items() if name == "variant"}
        more = {"subfolder": "safety_checker", "dtype": self.weights.dtype, **only}
        return {"safety_checker": self.weights.load(_if_safety_checker(), self.repo, **more)}

    def prepare(self) -> None:
        """Load stages II and III; II reads the text as stage I encoded it, so its own copy of T5 stays away."""
        from diffusers import IFSuperResolutionPipeline, StableDiffusionUpscalePipeline

        super().prepare()
        if "stage_2" not in self.arguments:
            return  # the preset "paper" draws with stage I alone, as the published script did
        load, dtype = self.weights.load, self.weights.dtype
        nothing = dict.fromkeys(("text_encoder", "safety_checker", "feature_extractor", "watermarker"))
        two = load(
            IFSuperResolutionPipeline,
            self.parts["stage_2"],
            dtype=dtype,
            requires_safety_checker=False,
            **nothing,
            **dict(self.spec.load),
        )
        judges = {name: getattr(self.pipeline, name) for name in ("safety_checker", "feature_extractor", "watermarker")}
        three = load(StableDiffusionUpscalePipeline, self.parts["stage_3"], dtype=dtype, **judges)
        self.refiners = [two, three]

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Any], list[bool | None]]:
        """Encode the text once, then hand the images from stage to stage."""
        one, further = self.pipeline, self.refiners
        embeds, negative = one.encode_prompt(prompts)
        texts = {"prompt_embeds": embeds, "negative_prompt_embeds": negative, "generator": generators}
        first = one(**texts, **self.arguments["stage_1"], output_type="pt" if further else "pil")
        if not further:
            return first.images, first.nsfw_detected or [None] * len(prompts)
        two, three = further
        second = two(image=first.images, **texts, **self.arguments["stage_2"], output_type="pt")
        third = three(prompt=prompts, image=second.images, generator=generators, **self.arguments["stage_3"])
        return third.images, third.nsfw_content_detected or [None] * len(prompts)

    def sent(self, prompt: str) -> str:
        """Return the prompt as `encode_prompt` reads it: it cleans no captions, whatever the call's default is."""
        return self.pipeline._text_preprocessing(prompt)[0]


# A function, since the base class comes from a library that is imported only when a model is loaded.
def _if_safety_checker() -> Any:
    """Return IF's safety checker as a class that loads with transformers 5 and judges without images."""
    import numpy as np
    from diffusers.pipelines.deepfloyd_if import safety_checker

    original: Any = safety_checker.IFSafetyChecker

    class TensorSafetyChecker(original):
        """Loads with transformers 5, which needs the `post_init` that diffusers 0.42 leaves out, and judges tensors."""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.post_init()

        def forward(self, clip_input: Any, images: Any, *thresholds: Any) -> Any:
            """Flag what the original makes black, an image with a watermark too; flagged images are not kept."""
            _, unsafe, marked = super().forward(clip_input, [np.zeros(1) for _ in images], *thresholds)
            return images, [one or other for one, other in zip(unsafe, marked, strict=True)], marked

    return TensorSafetyChecker


@dataclass(frozen=True, kw_only=True)
class DiffusersSpec(LocalSpec):
    """A model that diffusers runs.

    Attributes:
        pipeline: name of its class in diffusers.
        model: class with what is special to the model, see `ModelSpec.named_class`.
    """

    family: ClassVar[str] = "diffusers"
    family_packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "diffusers")
    pipeline: str
    model: str = "DiffusersModel"

    def pipeline_name(self, options: BuildOptions) -> str:
        """Return the name of the pipeline's class in diffusers."""
        return self.preset(options).pipeline or self.pipeline

    def pipeline_class(self, options: BuildOptions) -> Any:
        """Return the pipeline's class. Raises GenerationError: diffusers is missing, or too old to have it."""
        try:
            import diffusers
        except ImportError as error:
            raise GenerationError(f"{self.slug} needs diffusers; run: {install_command(['diffusers'])}") from error
        name = self.pipeline_name(options)
        if not hasattr(diffusers, name):
            version = diffusers.__version__
            raise GenerationError(f"{self.slug}: diffusers {version} has no {name}; run: pip install -U diffusers")
        return getattr(diffusers, name)

    def obstacles(self, run: RunOptions) -> list[str]:
        """Return what every model may lack, and the command that replaces a diffusers that is too old."""
        # Its list of names is read as text, since importing it takes seconds.
        found = importlib.util.find_spec("diffusers")
        if found is None or found.origin is None or f'"{self.pipeline}"' in Path(found.origin).read_text("utf-8"):
            return super().obstacles(run)
        return ["pip install -U diffusers", *super().obstacles(run)]

    def reads(self, options: BuildOptions) -> Iterable[str]:
        """Return the named parameters of the pipeline's call that are not set by us, and no tensors."""
        if self.named_class(self.model).own_arguments:
            return ()
        call = inspect.signature(self.pipeline_class(options).__call__).parameters.values()
        return {p.name for p in call if p.kind is not p.VAR_KEYWORD and not NOT_TO_BE_SET.search(p.name)}

    def settings(self, options: BuildOptions) -> dict[str, Any]:
        """Return what any local model records, and the pipeline."""
        return {**super().settings(options), "pipeline": self.pipeline_name(options)}

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> DiffusersModel:
        """Load the pipeline. Raises GenerationError when it cannot be loaded, or does not read what a table says."""
        reads = sorted(self.reads(options))
        unread = [name for name in self.arguments(options) if name not in reads]
        if unread and self.model == "DiffusersModel":  # another class may read more
            what = f"{self.pipeline_name(options)} does not read '{unread[0]}'"
            raise GenerationError(f"{self.slug}: {what}; {did_you_mean(unread[0], reads)}")
        return self.named_class(self.model)(self, options, run, device)
