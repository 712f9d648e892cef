"""LlamaGen (tier 3): a plain language model over image codes, 512x512, by its authors' code.

Run: python image_gen_scripts/llamagen.py --prompts prompts.parquet --output gendb/ --external-env envs/llamagen
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.external import ADAPTERS, ExternalSpec
from dyneval.generation.model import Preset

SAMPLING = {"cfg_scale": 7.5, "temperature": 1.0, "top_k": 1000, "top_p": 1.0, "sample_logits": True}
MODEL = ExternalSpec(
    slug="llamagen",
    name="LlamaGen",
    tier=3,
    adapter=ADAPTERS / "llamagen.py",
    code="https://github.com/FoundationVision/LlamaGen",
    variants={"stage2-512": "peizesun/llamagen_t2i", "stage1-256": "peizesun/llamagen_t2i"},
    parts={"t5": "google/flan-t5-xl"},
    presets={
        name: Preset(
            {"image_size": 512, "checkpoint": "t2i_XL_stage2_512.pt", **SAMPLING},
            "the published script is the authors' demo: four prompts of its own, no checkpoint named",
            by_variant={"stage1-256": {"image_size": 256, "checkpoint": "t2i_XL_stage1_256.pt"}},
        )
        for name in ("recommended", "paper")
    },
    memory_gib=14,
    licence="MIT (code)",
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
