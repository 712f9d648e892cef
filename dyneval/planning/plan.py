"""Steps 2-5 as work over throughput: how many tokens, GPU hours, and how much memory and disk a run takes.

The formulas hold for the recipe of this repository: four annotations a pair, two samples a pair and stage, ZeRO-3. A
change of the recipe, such as another request to the teacher, makes the plan wrong until its formula is changed as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dyneval.errors import SettingError
from dyneval.planning.assumptions import Assumptions, Formula, Gpus


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStep:
    """One step of the pipeline, all of its work.

    Attributes:
        items: how many of `unit` (images, pairs, samples).
        tokens_in: tokens read, or trained on.
        tokens_out: tokens written.
        gpu_hours: GPUs times hours.
        wall_hours: with all GPUs at work, loading and queueing not counted.
        memory_gb: the least memory that each GPU must have, in GB (10^9 bytes).
        disk_gb: what the step leaves on disk, model weights not counted but where it says so.
    """

    name: str
    items: int
    unit: str
    tokens_in: float
    tokens_out: float
    gpu_hours: float
    wall_hours: float
    memory_gb: float
    disk_gb: float


def _written(a: Assumptions) -> float:
    """Tokens of all replies about a pair: questions, scene graph, answers. The same for teacher and student."""
    questions = a["t2ia_questions"] + a["iqa_questions"]
    return questions * (a["question_tokens"] + a["answer_tokens"]) + a["scene_tokens"]


def _teacher_rate(_: Assumptions) -> float:
    raise SettingError(
        "there is no published throughput of this teacher on these GPUs: annotate some pairs and name the summary "
        "(--measured annotations/annotate.summary.json), or give one (--assume teacher_tokens_per_gpu_second=N)"
    )


FORMULAS = (
    Formula(
        "image_gpu_seconds",
        "GPU seconds an image",
        "image_tflop / (peak_tflops x draw_utilisation)",
        lambda a: a["image_tflop"] / (a["peak_tflops"] * a["draw_utilisation"]),
    ),
    Formula(
        "teacher_tokens_in",
        "tokens a pair",
        "templates, 4 x prompt, 3 x image, the questions that are answered",
        # Three of the requests show the image; the questions are read again where they are answered.
        lambda a: (
            a["teacher_template_tokens"]
            + 4 * a["prompt_tokens"]
            + 3 * a["teacher_image_tokens"]
            + (a["t2ia_questions"] + a["iqa_questions"]) * a["question_line_tokens"]
        ),
    ),
    Formula("teacher_tokens_out", "tokens a pair", "questions, scene graph, answers", _written),
    Formula("teacher_tokens_per_gpu_second", "tokens/s a GPU, in and out", "", _teacher_rate),
    Formula(
        "stage1_tokens",
        "tokens a pair",
        "a T2IA and an EVALUATION sample",
        lambda a: (
            a["student_template_tokens"] / 2
            + 2 * a["prompt_tokens"]
            + a["student_image_tokens"]
            + a["t2ia_questions"] * (a["question_line_tokens"] + a["question_tokens"] + a["answer_tokens"])
        ),
    ),
    Formula(
        "stage2_tokens",
        "tokens a pair",
        "an IQA and an EVALUATION sample",
        lambda a: (
            a["student_template_tokens"] / 2
            + a["prompt_tokens"]
            + 2 * a["student_image_tokens"]
            + a["scene_tokens"]
            + a["iqa_questions"] * (a["question_line_tokens"] + a["question_tokens"] + a["answer_tokens"])
        ),
    ),
    Formula(
        "train_tokens_per_gpu_second",
        "tokens/s a GPU",
        # 6 floating point operations a parameter and token: 2 forward, 4 backward (Kaplan et al. 2020).
        "peak_tflops x train_utilisation / (6 x student_parameters)",
        lambda a: a["peak_tflops"] * 1e12 * a["train_utilisation"] / (6 * a["student_parameters"]),
    ),
    Formula("score_tokens_out", "tokens a pair", "questions, scene graph, answers", _written),
    Formula(
        "score_gb",
        "GB a GPU",
        "2 bytes x student_parameters + score_batch_size x score_tokens_out x student_token_kb",
        lambda a: (
            2 * a["student_parameters"] / 1e9
            + a["score_batch_size"] * a["score_tokens_out"] * a["student_token_kb"] / 1e6
        ),
    ),
    Formula(
        "score_gpu_seconds",
        "GPU seconds a pair",
        # Decoding is bound by memory: each token reads all weights (2 bytes each) once for the whole batch.
        "score_tokens_out x 2 bytes x student_parameters / (bandwidth_tb x decode_utilisation x score_batch_size)",
        lambda a: (
            a["score_tokens_out"]
            * (2 * a["student_parameters"])
            / (a["bandwidth_tb"] * 1e12 * a["decode_utilisation"] * a["score_batch_size"])
        ),
    ),
)


def plan(pairs: int, gpus: Gpus, a: Assumptions) -> list[PlannedStep]:
    """Plan a run that ends with `pairs` pairs in DynEvalInstruct.

    Args:
        pairs: pairs that the student is trained on.
        gpus: all of them work on each step in turn.
        a: the figures; `a.used` tells afterwards which mattered.

    Raises:
        SettingError: a throughput is missing, or is 0.
    """
    steps = []
    try:
        for name, items, unit, tokens_in, tokens_out, seconds, memory_gb, disk_gb in _work(pairs, gpus, a):
            hours = seconds / 3600
            steps.append(
                PlannedStep(
                    name=name,
                    items=round(items),
                    unit=unit,
                    tokens_in=tokens_in,
                    tokens_out=tokens_out,
                    gpu_hours=hours,
                    wall_hours=hours / gpus.count,
                    memory_gb=memory_gb,
                    disk_gb=disk_gb,
                )
            )
    except ZeroDivisionError:
        raise SettingError("a throughput is 0; see --assume and --measured") from None
    return steps


def _work(
    pairs: int, gpus: Gpus, a: Assumptions
) -> Iterator[tuple[str, float, str, float, float, float, float, float]]:
    """Yield of each step its name, items, their unit, tokens in and out, GPU seconds, memory of a GPU and disk (GB)."""
    images = pairs * a["images_per_pair"]
    seconds = images * a["image_gpu_seconds"]
    yield "2 generate images", images, "images", 0, 0, seconds, a["image_gb"], images * a["image_mb"] / 1e3
    annotated = pairs * a["annotated_per_pair"]
    read, written = annotated * a["teacher_tokens_in"], annotated * a["teacher_tokens_out"]
    seconds = (read + written) / a["teacher_tokens_per_gpu_second"]
    disk = annotated * a["annotation_kb"] / 1e6 + a["teacher_weights_gb"]
    # The server shares the weights out over all GPUs, and takes this share of each for weights and its cache.
    memory = a["teacher_weights_gb"] / gpus.count / a["serve_share"]
    yield "3 annotate", annotated, "pairs", read, written, seconds, memory, disk
    for stage in (1, 2):
        tokens = pairs * a["epochs"] * a[f"stage{stage}_tokens"]
        seconds = tokens / a["train_tokens_per_gpu_second"]
        trained = a["student_parameters"] - a["frozen_parameters"]
        # ZeRO-3 shares weights, gradients and optimizer states out; frozen parameters are 2 bytes of bfloat16 each.
        states = trained * a["trained_bytes"] + a["frozen_parameters"] * 2
        memory = states / 1e9 / gpus.count + a["train_batch_gb"]
        disk = a["student_parameters"] * (2 + a["optimizer_bytes"]) / 1e9
        # A pair gives two samples to each stage: its questions or scene graph, and its answers.
        yield f"4 train, stage {stage}", pairs * 2 * a["epochs"], "samples", tokens, 0, seconds, memory, disk
    scored = a["scored_pairs"]
    seconds = scored * a["score_gpu_seconds"]
    written = scored * a["score_tokens_out"]
    yield "5 score", scored, "pairs", 0, written, seconds, a["score_gb"], scored * a["score_kb"] / 1e6


def too_large(steps: Iterable[PlannedStep], gpus: Gpus, a: Assumptions) -> list[str]:
    """A line for each step that these GPUs have too little memory for."""
    return [
        f"step {step.name} needs {step.memory_gb:.0f} GB on each GPU, and of {gpus.type} one has {a['gpu_gb']:.0f}; "
        f"{'take more GPUs (--gpus)' if step.name[0] in '34' else 'take larger GPUs (--gpus)'}"
        for step in steps
        if step.memory_gb > a["gpu_gb"]
    ]
