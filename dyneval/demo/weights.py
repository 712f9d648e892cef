"""The two students that the package brings along, in a few megabytes, and how they become ordinary checkpoints.

    $ python -m dyneval.demo.weights base --output DIR [--task-tokens]
    $ python -m dyneval.demo.weights judge --output DIR
    $ python -m dyneval.demo.weights pack-judge --checkpoint DIR --output FILE

The base is pretrained and has never rated anything; `MODEL_CARD.md` beside the files says what it saw and
`pipeline/demo_base/` makes it. The judge is what the demo made of it: the tensors that fine-tuning changed.

Of the embedding's 151,936 rows, 39 MB, only those of the demo world's words are kept. All other words were trained as
one, so one row stands for them, and the whole table is rebuilt exactly. A change of `tiny_config` makes the files
unreadable.
"""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.conventions import Conventions, write_conventions
from dyneval.demo.tiny_model import tiny_config, whole_folder, write_checkpoint
from dyneval.errors import CheckpointError, UserError
from dyneval.processing import Processor, start_task_rows
from dyneval.qwen_vocabulary import build_tokenizer
from dyneval.replies import DEFAULT_FORM
from dyneval.tokens import DEFAULT_TEMPLATE, TASK_TOKEN_IDS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Tensors = dict[str, torch.Tensor]

FOLDER = Path(__file__).parent / "students"
BASE, JUDGE = FOLDER / "base.safetensors", FOLDER / "judge.safetensors"
PIXELS = 16_384
"""Area of every image that these students see: 128 x 128 pixels, 16 visual tokens."""
OWN = Conventions(min_pixels=PIXELS, max_pixels=PIXELS, demo=True)
"""What both say of themselves."""
_STUDENT = OWN._replace(template=DEFAULT_TEMPLATE, reply_form=DEFAULT_FORM)
"""And what those say that can be asked."""
_TABLE = "model.language_model.embed_tokens.weight"
_USED, _ROWS, _OTHERS = "rows.used", "rows", "rows.others"


def pack_base(model: PreTrainedModel, used: list[int], path: Path, facts: dict[str, Any]) -> None:
    """Write `model` to `path`: its tensors in bfloat16 and the rows of the words `used`.

    Args:
        model: a tiny Qwen3-VL whose other rows are all equal.
        used: token ids, ascending.
        path: safetensors file.
        facts: how it was made; `width`, `text_layers` and `vision_layers` are needed to read it.

    Raises:
        ValueError: other rows differ, so that the table could not be rebuilt.
    """
    import torch
    from safetensors.torch import save_file

    # The head is the embedding under another name (tied), so it is left out.
    weights = {
        name: value.detach().bfloat16() for name, value in model.state_dict().items() if name != "lm_head.weight"
    }
    table = weights.pop(_TABLE)
    others = _rows_of_others(table, used)
    if not torch.equal(others, others[:1].expand_as(others)):
        raise ValueError("the rows of unused words differ; they cannot be kept as one")
    rows = {_USED: torch.tensor(used, dtype=torch.int32), _ROWS: table[used], _OTHERS: others[0].clone()}
    # Metadata of a safetensors file are texts; hence one JSON text.
    save_file(weights | rows, path, {"facts": json.dumps(facts)})


def _rows_of_others(table: torch.Tensor, used: list[int]) -> torch.Tensor:
    """Return the rows of all words but those `used`."""
    import torch

    others = torch.ones(len(table), dtype=torch.bool)
    others[used] = False
    return table[others]


def read_facts(path: Path) -> dict[str, Any]:
    """Return what a packed file says about how it was made."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(json.loads(file.metadata()["facts"]))


def load_base(path: Path = BASE) -> Any:
    """Return the base as a model in bfloat16. Raises CheckpointError: the file does not fit its own configuration."""
    import torch
    from safetensors.torch import load_file
    from transformers import Qwen3VLForConditionalGeneration

    facts = read_facts(path)
    config = tiny_config(facts["width"], facts["text_layers"], facts["vision_layers"])
    model: Any = Qwen3VLForConditionalGeneration(config).to(dtype=torch.bfloat16)  # type: ignore[call-arg]
    weights = load_file(path)
    _fill_table(model, weights)
    # Not strict: the table was filled by hand, and the head is the same tensor.
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if set(missing) - {_TABLE, "lm_head.weight"} or unexpected:
        raise CheckpointError(f"{path}: does not fit its own model: {[*missing, *unexpected][:3]}")
    return model


def write_base(folder: Path, task_tokens: bool = False) -> None:
    """Write the base as a checkpoint.

    Args:
        folder: new or empty; it appears whole or not at all.
        task_tokens: register the task tokens and start their rows as training does: a student that can be asked. It
            was taught neither template nor reply form, and is scored as the student that it is compared with.

    Raises:
        FileExistsError: `folder` holds something.
    """
    model = load_base()
    if task_tokens:
        start_task_rows(model.get_input_embeddings().weight.data, build_tokenizer())
    _write(folder, model, (_STUDENT if task_tokens else OWN)._replace(untrained=True))


def pack_judge(checkpoint: Path, path: Path, facts: dict[str, Any]) -> None:
    """Write what fine-tuning changed of the base: tensors in bfloat16, rows of used words and of the task tokens.

    Args:
        checkpoint: folder of the fine-tuned student.
        path: safetensors file.
        facts: how it was made, kept with the weights.

    Raises:
        CheckpointError: it is not a student of the base.
    """
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import Qwen3VLForConditionalGeneration

    base = load_base()
    trained = Qwen3VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.bfloat16)
    before, after = base.state_dict(), trained.state_dict()
    if {name: value.shape for name, value in before.items()} != {name: value.shape for name, value in after.items()}:
        raise CheckpointError(f"{checkpoint}: is not a student of the demo's base: its tensors differ")
    used = sorted({*load_file(BASE)[_USED].tolist(), *TASK_TOKEN_IDS.values()})
    table = after[_TABLE]
    changed = {
        name: value
        for name, value in after.items()
        if name not in (_TABLE, "lm_head.weight") and not torch.equal(value, before[name])
    }
    rows = {_USED: torch.tensor(used, dtype=torch.int32), _ROWS: table[used]}
    # Fine-tuning pushes all unused words down alike; bfloat16 and the order of sums leave them apart by a rounding.
    rows[_OTHERS] = _rows_of_others(table, used).float().mean(0).bfloat16()
    save_file(changed | rows, path, {"facts": json.dumps(facts)})


def write_judge(folder: Path) -> None:
    """Write the finished demo judge as a checkpoint, as `write_base` does."""
    from safetensors.torch import load_file

    model = load_base()
    weights = load_file(JUDGE)
    _fill_table(model, weights)
    model.load_state_dict(weights, strict=False)
    _write(folder, model, _STUDENT)


def judge_version() -> str:
    """Return eight hex digits that change with the judge's weights; they name the folder that it is unpacked to."""
    # A name that tells versions apart, not a protection against tampering: a checksum is enough.
    return f"{zlib.crc32(BASE.read_bytes() + JUDGE.read_bytes()):08x}"


def _fill_table(model: Any, weights: Tensors) -> None:
    """Move the rows of a packed file into the embedding of `model`."""
    used, rows, others = (weights.pop(name) for name in (_USED, _ROWS, _OTHERS))
    table = model.get_input_embeddings().weight.data
    table[:] = others
    table[used.long()] = rows


def _write(folder: Path, model: Any, said: Conventions) -> None:
    """Write a checkpoint with these conventions; where they name a template, its tokenizer knows the task tokens."""
    with whole_folder(folder) as part:
        write_checkpoint(part, model, PIXELS)
        write_conventions(part, said)
        if said.template:
            processor = Processor.from_pretrained(part)
            processor.conventions = said
            processor.save_pretrained(part)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Write the demo's students as checkpoints.")
    parser.add_argument("what", choices=("base", "judge", "pack-judge"))
    parser.add_argument("--output", type=Path, required=True, help="folder to write; with pack-judge a file")
    parser.add_argument("--task-tokens", action="store_true", help="base: register the task tokens, to score with it")
    parser.add_argument("--checkpoint", type=Path, help="pack-judge: the fine-tuned student")
    arguments = parser.parse_args()
    try:
        if arguments.what == "base":
            write_base(arguments.output, arguments.task_tokens)
        elif arguments.what == "judge":
            write_judge(arguments.output)
        elif arguments.checkpoint is None:
            parser.error("pack-judge needs --checkpoint")
        else:
            pack_judge(arguments.checkpoint, arguments.output, {"checkpoint": arguments.checkpoint.name})
    except (UserError, OSError) as error:
        raise SystemExit(f"weights: {error}") from error


if __name__ == "__main__":
    main()
