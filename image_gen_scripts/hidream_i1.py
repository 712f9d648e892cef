"""HiDream-I1 (tier 1): four text encoders, one of them Llama 3.1, whose licence must be accepted.

Run: python image_gen_scripts/hidream_i1.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersModel, DiffusersSpec
from dyneval.generation.model import Preset, square


class HiDream(DiffusersModel):
    """Brings Llama along."""

    def components(self) -> dict[str, object]:
        """The fourth text encoder and its tokenizer, which the repo leaves out."""
        tokenizer = self.load_part("transformers.AutoTokenizer", "llama")
        more = {"dtype": self.weights.dtype, "output_hidden_states": True, "output_attentions": True}
        encoder = self.load_part("transformers.LlamaForCausalLM", "llama", **more)
        return {"tokenizer_4": tokenizer, "text_encoder_4": encoder}


FULL = {"num_inference_steps": 50, "guidance_scale": 5.0, **square(1024)}
FASTER = {name: {"num_inference_steps": steps, "guidance_scale": 0.0} for name, steps in (("dev", 28), ("fast", 16))}
MODEL = DiffusersSpec(
    slug="hidream-i1",
    name="HiDream-I1",
    tier=1,
    pipeline="HiDreamImagePipeline",
    model=HiDream,
    variants={name.lower(): f"HiDream-ai/HiDream-I1-{name}" for name in ("Full", "Dev", "Fast")},
    parts={"llama": "meta-llama/Llama-3.1-8B-Instruct"},
    presets={"recommended": Preset(FULL, by_variant=FASTER), "paper": Preset(FULL, "with the authors' own scheduler")},
    memory_gib=60,
    licence="MIT; Llama 3.1 Community",
    gated=True,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
