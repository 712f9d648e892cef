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
        parameters = inspect.signature(type(self.pipeline).__call__).parameters
        return "\n".join(parameters["complex_human_instruction"].default) + prompt


AUTHORS = {"num_inference_steps": 20, "guidance_scale": 4.5, **square(1024)}
MODEL = DiffusersSpec(
    slug="sana",
    name="Sana",
    tier=2,
    pipeline="SanaPipeline",
    model=Sana,
    variants={"1.5-1.6b": "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers"},
    presets={
        "recommended": Preset(AUTHORS, "the authors' steps and guidance; the published script's are another model's"),
        "paper": Preset({**AUTHORS, "num_inference_steps": 50, "guidance_scale": 3.5}, "as for any model"),
    },
    memory_gib=12,
    licence="NVIDIA; Gemma for the text encoder",
    batch_size=8,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
