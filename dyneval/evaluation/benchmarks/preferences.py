"""Sets in which people said which image of one prompt they like better: ImageRewardDB, HPDv2, HPDv3, Pick-a-Pic.

Sources: `data/test.json` of https://github.com/THUDM/ImageReward (466 lists of 4-9 images with a rank each, ties among
them) and the Parquet files of https://huggingface.co/datasets/THUDM/ImageRewardDB, which have ratings 1-7 of alignment,
fidelity and overall as well; `test.json` of https://huggingface.co/datasets/ymhao/HPDv2 (nine images with averaged
ranks); the pairs of https://huggingface.co/datasets/MizzenAI/HPDv3 and of HPDv3++ (`test_tf.json`, `test_aes.json` of
https://huggingface.co/datasets/Junjun2333/HPDv3-PlusPlus), whose path1 always is the image that won; the Parquet files
of https://huggingface.co/datasets/yuvalkirstain/pickapic_v2, whose images are expected as `<uid>.jpg`.

An image that is in several groups is one item in each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed, numbers
from dyneval.files import tables
from dyneval.files.atomic import read_json
from dyneval.files.row import text_of

# Fields of ImageRewardDB that are ratings 1-7, with their columns in the Parquet files.
_RATED = {
    "alignment": "image_text_alignment_rating",
    "fidelity": "fidelity_rating",
    "overall": "overall_rating",
}


def _group(
    name: str, prompt: str, images: Sequence[str], ratings: Sequence[Any], models: Sequence[str | None] = ()
) -> Iterator[RatedImage]:
    """The images of one group; higher ratings are better.

    Raises:
        LookupError: there are more or fewer ranks than images.
    """
    if len(images) != len(ratings):
        raise LookupError(f"{name} has {len(images)} images and {len(ratings)} ranks")
    for number, (image, rating) in enumerate(zip(images, ratings, strict=True)):
        model = models[number] if models else None
        yield RatedImage(
            item_id=f"{name}/{number}", image=image, prompt=prompt, ratings=listed(rating), model=model, group=name
        )


def _from_ranks(ranks: Sequence[Any]) -> list[Any]:
    """Ranks as ratings: negated, since the lowest rank and the highest rating are the best.

    What is no number stays as it is, so that `load` leaves the image out and says why.
    """
    found: list[Any] = []
    for rank in ranks:
        try:
            found += [-value for value in numbers(rank)]
        except TypeError:
            found.append(rank)
    return found


def read_image_reward(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the images of test.json, or of a Parquet file of metadata; of ranks the first is the best."""
    if path.suffix.lower() == ".json":
        if field != "preference":
            raise LookupError(f"{path.name} holds ranks alone; {field} stands in the Parquet files of ImageRewardDB")
        for row in read_json(path):
            yield from _group(str(row["id"]), row["prompt"], row["generations"], _from_ranks(row["ranking"]))
        return
    column = _RATED.get(field, "rank")
    names = ("image_path", "prompt_id", "prompt", column)
    for row in tables.rows(path, names, needs=names):
        value = row[column]
        # A rating is of the image alone; only a rank is of the image in its group.
        yield RatedImage(
            item_id=row["image_path"],
            image=row["image_path"],
            prompt=row["prompt"],
            ratings=tuple(_from_ranks([value])) if column == "rank" else listed(value),
            group=str(row["prompt_id"]) if column == "rank" else None,
        )


def read_hpdv2(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the images of test.json; of ranks the lowest is the best."""
    # The entries have no id, so their place in the file is the name of the group.
    for number, row in enumerate(read_json(path)):
        yield from _group(str(number), row["prompt"], row["image_path"], _from_ranks(row["rank"]))


def read_hpdv3(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the images of pairs of which the first was preferred; rows that nobody judged have no choice_dist."""
    for number, row in enumerate(read_json(path) if path.suffix.lower() == ".json" else tables.rows(path)):
        models = [text_of(row.get("model1")), text_of(row.get("model2"))]
        is_judged = "choice_dist" not in row or row["choice_dist"] is not None
        # path1 is the image that won, in the published files.
        won: list[Any] = [1, 0] if is_judged else [None, None]
        yield from _group(str(number), row["prompt"], [row["path1"], row["path2"]], won, models)


def read_pick_a_pic(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the images of a Parquet file's pairs; 0.5 and 0.5 is a tie."""
    names = ("caption", "image_0_uid", "image_1_uid", "label_0", "label_1", "has_label")
    for number, row in enumerate(tables.rows(path, names, needs=names[:5])):
        # True or False in Parquet, text in CSV; a file without the column has labels in every row.
        has_label = str(row.get("has_label")).lower() not in ("false", "0")
        labels = [row["label_0"], row["label_1"]] if has_label else [None, None]
        images = [f"{row['image_0_uid']}.jpg", f"{row['image_1_uid']}.jpg"]
        yield from _group(str(number), row["caption"], images, labels)


IMAGE_REWARD = Benchmark(
    name="imagerewarddb",
    title="ImageRewardDB",
    source="https://github.com/THUDM/ImageReward and https://huggingface.co/datasets/THUDM/ImageRewardDB",
    layout="data/test.json, [{id, prompt, generations: [paths], ranking: [1 is best]}], or metadata-*.parquet with "
    "image_path, prompt_id, prompt, rank and the ratings; images as named there",
    size="466 prompts, 6,399 pairs without ties (test)",
    licence="Apache-2.0",
    fields={
        "preference": Field("which image of a prompt people rank higher", is_preference=True),
        **{name: Field(column.replace("_", " "), 1, 7) for name, column in _RATED.items()},
    },
    read=read_image_reward,
)
HPDV2 = Benchmark(
    name="hpdv2",
    title="HPD v2",
    source="https://huggingface.co/datasets/ymhao/HPDv2",
    layout="test.json, [{prompt, image_path: [paths], rank: [lowest is best]}]; images as named there",
    size="400 prompts of nine images (test)",
    licence="Apache-2.0",
    fields={"preference": Field("which image of a prompt people rank higher", is_preference=True)},
    read=read_hpdv2,
)
HPDV3 = Benchmark(
    name="hpdv3",
    title="HPD v3",
    source="https://huggingface.co/datasets/MizzenAI/HPDv3 and https://huggingface.co/datasets/Junjun2333/HPDv3-PlusPlus",
    layout="a JSON or JSONL file of {prompt, path1 (preferred), path2}, such as HPDv3++'s test_tf.json (alignment) and "
    "test_aes.json (quality), with model1 and model2 where known; images as named there",
    size="pairs; 1.17 million in HPDv3",
    licence="MIT",
    fields={"preference": Field("which image of a pair people prefer", is_preference=True)},
    read=read_hpdv3,
)
PICK_A_PIC = Benchmark(
    name="pick-a-pic",
    title="Pick-a-Pic",
    source="https://huggingface.co/datasets/yuvalkirstain/pickapic_v2",
    layout="a Parquet file with caption, image_0_uid, image_1_uid, label_0, label_1; images saved as <uid>.jpg",
    size="pairs; about 500 in the test split",
    licence="code MIT, data not stated",
    fields={"preference": Field("which image of a pair people prefer", is_preference=True)},
    read=read_pick_a_pic,
)
