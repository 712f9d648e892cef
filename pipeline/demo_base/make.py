"""Makes the base that the demo's student starts from: a tiny Qwen3-VL that has seen the demo's world.

    $ python pipeline/demo_base/make.py --output output/demo_base

Under an hour on two cores. The result, `base.safetensors`, is what the package ships in `dyneval/demo/students/`. The
three parts are `vision.py`, then `language.py` with the exchanges of `speech.py`, then `neutral.py`. The base learns no
task token, no rating and no score: if it did, the demo would prove nothing about the fine-tuning that follows.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded; threads that spin slow each other

import language
import neutral
import torch
import vision
from pictures import draw_all
from safetensors.torch import load_file, save_file
from speech import used_tokens
from transformers import Qwen3VLForConditionalGeneration

from dyneval.demo.tiny_model import tiny_config, write_checkpoint
from dyneval.demo.weights import PIXELS, pack_base
from dyneval.processing import Processor

HELDOUT = 512
"""Most pictures on which the log reports; a quarter where there are few."""
NEUTRAL = 4096
"""Most pictures on which the digits are made to say nothing."""
WIDTH, TEXT_LAYERS, VISION_LAYERS = 128, 4, 4


def see(output: Path, seed: int, prompts: int, steps: int) -> None:
    """Train the vision tower; write it, its features of every picture, and the truths.

    Args:
        output: folder to write.
        seed: of pictures and weights.
        prompts: three pictures each.
        steps: batches.
    """
    torch.manual_seed(seed)
    pictures = draw_all(prompts, seed)
    print(f"{len(pictures.truths):,} pictures", flush=True)
    visual = Qwen3VLForConditionalGeneration(tiny_config(WIDTH, TEXT_LAYERS, VISION_LAYERS)).model.visual
    vision.train(visual, pictures, steps, min(HELDOUT, len(pictures.truths) // 4))
    # Rounded to bfloat16, as it will be shipped, before features are computed: the language model learns from these.
    weights = {name: value.detach().bfloat16() for name, value in visual.state_dict().items()}
    visual.load_state_dict({name: value.float() for name, value in weights.items()})
    with torch.no_grad():
        parts = torch.from_numpy(pictures.pixels).split(128)
        seen = [[one.bfloat16() for one in vision.look(visual, part)] for part in parts]
    features = {str(layer): torch.cat(column) for layer, column in enumerate(zip(*seen, strict=True))}
    save_file(features, output / "features.safetensors")
    (output / "truths.pickle").write_bytes(pickle.dumps(pictures.truths))
    save_file(weights, output / "visual.safetensors")


def speak(output: Path, seed: int, vision_steps: int, steps: int) -> None:
    """Train the language model on what the tower sees, make its digits neutral, and write the base.

    Args:
        output: folder that `see` has written.
        seed: of exchanges and weights.
        vision_steps: for the facts that go into the file.
        steps: batches.
    """
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(tiny_config(WIDTH, TEXT_LAYERS, VISION_LAYERS))
    model.model.visual.load_state_dict({k: v.float() for k, v in load_file(output / "visual.safetensors").items()})
    # Sequences are short: eager attention is faster here than SDPA on padded ones.
    model.set_attn_implementation({"text_config": "eager", "vision_config": "sdpa"})
    # The processor is read from a checkpoint folder, like that of every student.
    if not (output / "start").exists():
        write_checkpoint(output / "start", model, PIXELS)
    processor = Processor.from_pretrained(output / "start")
    truths = pickle.loads((output / "truths.pickle").read_bytes())
    features = list(load_file(output / "features.safetensors").values())
    learned = language.Words(used_tokens(processor, truths))
    heldout = min(HELDOUT, len(truths) // 4)
    language.train(model, processor, truths, features, learned, steps, heldout, seed)
    facts = {"width": WIDTH, "text_layers": TEXT_LAYERS, "vision_layers": VISION_LAYERS, "seed": seed}
    facts |= {"pictures": len(truths), "vision_steps": vision_steps, "language_steps": steps}
    # Kept, so that a test can compare: the last part may change the five digits and nothing else.
    pack_base(model, learned.used, output / "before_neutral.safetensors", facts)
    seen = len(truths) - heldout
    found = neutral.neutralise(
        model, processor, truths, features, learned, range(max(0, seen - NEUTRAL), seen), range(seen, len(truths))
    )
    print(f"digits: {found}", flush=True)
    pack_base(model, learned.used, output / "base.safetensors", facts | found)


def main() -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description="Pretrain the demo's base.")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; a finished part of it is kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=20_000, help="three pictures each, less those kept back")
    parser.add_argument("--vision-steps", type=int, default=2500)
    parser.add_argument("--language-steps", type=int, default=1500)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    if not (arguments.output / "visual.safetensors").exists():
        see(arguments.output, arguments.seed, arguments.prompts, arguments.vision_steps)
    if not (arguments.output / "base.safetensors").exists():
        speak(arguments.output, arguments.seed, arguments.vision_steps, arguments.language_steps)
    print(f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
