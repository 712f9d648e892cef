"""Show-o (tier 2): discrete diffusion on phi-1.5, 512x512, by its authors' code.

Run: python image_gen_scripts/show_o.py --prompts prompts.parquet --output gendb/ --external-env envs/show-o
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.external import ADAPTERS, ExternalSpec
from dyneval.generation.model import Preset

MODEL = ExternalSpec(
    slug="show-o",
    name="Show-o",
    tier=2,
    adapter=ADAPTERS / "show_o.py",
    code="https://github.com/showlab/Show-o",
    variants={"512": "showlab/show-o-512x512", "256": "showlab/show-o"},
    parts={"llm": "microsoft/phi-1_5", "tokens": "showlab/magvitv2"},
    presets={
        name: Preset(
            {"config": "showo_demo_512x512.yaml", "timesteps": 50, "guidance_scale": 5.0, "temperature": 1.0},
            note,
            by_variant={"256": {"config": "showo_demo.yaml"}},
        )
        for name, note in (
            ("recommended", "as the authors' example"),
            ("paper", "unseeded; the published script may also have run Show-o2, the release does not say"),
        )
    },
    memory_gib=10,
    licence="Apache-2.0 (code)",
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
