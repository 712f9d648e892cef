"""Sana 1.5 (tier 2): a linear-attention transformer; the pipeline wraps every prompt in an instruction.

Run: python image_gen_scripts/sana.py --prompts prompts.parquet --output gendb/ --limit 100
"""

import inspect

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersModel, DiffusersSpec
from dyneval.generation.model import Preset, square


class Sana(DiffusersModel):
    """Records the instruction that the pipeline puts before the prompt."""

    def sent(self, prompt: str) -> str:
        """Instruction and prompt."""
        default = inspect.signature(type(self.pipeline).__call__).parameters["complex_human_instruction"].default
        return "\n".join(self.arguments.get("complex_human_instruction", default) or []) + prompt


PAPER = {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024)}
MODEL = DiffusersSpec(
    slug="sana",
    name="Sana",
    tier=2,
    pipeline="SanaPipeline",
    model=Sana,
    variants={"1.5-1.6b": "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers"},
    presets={
        "recommended": Preset({"num_inference_steps": 20, "guidance_scale": 4.5, **square(1024)}),
        "paper": Preset(PAPER, "the published script: 50 steps and guidance 3.5 for any model"),
    },
    memory_gib=12,
    licence="NVIDIA; Gemma for the text encoder",
    batch_size=8,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
