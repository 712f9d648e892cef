"""FIBO (tier 1): draws from JSON alone, which a model of its authors, code and all, writes first; gated.

Run: python image_gen_scripts/fibo.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersModel, DiffusersSpec
from dyneval.generation.model import Preset, Request, square


class Fibo(DiffusersModel):
    """Has the JSON written from the image's own seed; it is what the record calls the prompt that was sent."""

    def prepare(self) -> None:
        """Load the model that writes JSON."""
        self.writer = self.load_part("diffusers.ModularPipeline", "prompt_to_json", trust_remote_code=True)

    def wording(self, request: Request) -> str:
        """The prompt as JSON."""
        return self.writer(prompt=request.prompt).values["json_prompt"]


SETTINGS = {"num_inference_steps": 50, "guidance_scale": 5.0, **square(1024)}
MODEL = DiffusersSpec(
    slug="fibo",
    name="FIBO",
    tier=1,
    pipeline="BriaFiboPipeline",
    model=Fibo,
    variants={"fibo": "briaai/FIBO"},
    parts={"prompt_to_json": "briaai/FIBO-VLM-prompt-to-JSON"},
    presets={"recommended": Preset(SETTINGS), "paper": Preset(SETTINGS, "without its negative prompt for photographs")},
    packages=("boltons",),
    memory_gib=34,
    licence="CC BY-NC 4.0",
    gated=True,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
