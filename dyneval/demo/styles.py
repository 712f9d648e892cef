"""Style, quality and camera words that demo prompts carry; they change no scene, only how long and rich a prompt is."""

from __future__ import annotations

MEDIA: tuple[str, ...] = (
    "photo", "photograph", "photorealistic photograph", "macro photo", "polaroid photo", "film still",
    "closeup photograph", "product photo", "painting", "oil painting", "watercolor painting", "digital painting",
    "matte painting", "gouache painting", "drawing", "pencil drawing", "charcoal sketch", "ink drawing",
    "children's book illustration", "flat vector illustration", "isometric illustration", "storybook illustration",
    "3 d render", "3d render", "low poly render", "claymation still", "concept art", "poster", "retro travel poster",
    "pixel art", "paper craft model", "stained glass window", "woodblock print", "comic book panel",
)  # fmt: skip
"""What an image is said to be: "an oil painting of ..."."""

STYLES: tuple[str, ...] = (
    "digital art", "concept art", "fantasy art", "pop art", "art deco", "art nouveau", "bauhaus", "baroque",
    "impressionism", "expressionism", "surrealism", "minimalism", "cubism", "pointillism", "photorealism",
    "synthwave", "vaporwave", "steampunk", "cyberpunk", "solarpunk", "dieselpunk", "gothic", "rococo",
    "anime style", "cartoon style", "comic style", "storybook style", "flat design", "line art", "cel shaded",
    "ukiyo - e", "folk art", "naive art", "in the style of an old master", "in the style of a dutch still life",
    "in the style of a vintage poster", "in the style of a picture book", "by a famous illustrator",
    "by a renaissance painter", "by a japanese printmaker", "by an impressionist master", "studio anime background",
    "dreamlike", "whimsical", "surreal", "ethereal", "nostalgic", "cute", "epic composition", "moody",
)  # fmt: skip
"""Style and artist words without the name of any person."""

QUALITY: tuple[str, ...] = (
    "highly detailed", "ultra detailed", "extremely detailed", "intricate details", "intricate", "sharp focus",
    "masterpiece", "award winning", "award - winning", "trending on artstation", "trending on cgsociety",
    "featured on behance", "4k", "4 k", "8k", "8 k", "8 k resolution", "hd", "uhd", "high quality", "best quality",
    "professional", "stunning", "beautiful", "elegant", "hyperrealistic", "hyper realistic", "ultra realistic",
    "smooth", "crisp", "clean lines", "fine textures", "rich textures", "vivid colors", "vibrant colors",
    "pastel colors", "muted colors", "warm palette", "triadic color scheme", "wallpaper",
)  # fmt: skip
"""Words by which people ask for a better image."""

CAMERA: tuple[str, ...] = (
    "octane render", "unreal engine 5", "unreal engine", "blender cycles", "ray tracing", "global illumination",
    "ambient occlusion", "subsurface scattering", "physically based rendering", "volumetric lighting",
    "volumetric fog", "cinematic lighting", "dramatic lighting", "studio lighting", "soft lighting", "rim lighting",
    "golden hour", "blue hour", "backlit", "god rays", "bokeh", "depth of field", "shallow depth of field",
    "tilt shift", "long exposure", "wide angle", "wide - angle", "fisheye lens", "telephoto lens", "35mm", "3 5 mm",
    "50mm lens", "8 5 mm lens", "f/1.8", "f / 2", "dslr", "kodachrome", "film grain", "hdr", "symmetrical",
    "centered composition", "rule of thirds", "bird's eye view", "low angle shot", "full shot", "imax 7 0 mm",
)  # fmt: skip
"""Rendering, light and camera terms."""

ADDENDA: frozenset[str] = frozenset(STYLES + QUALITY + CAMERA)
"""Every phrase that may stand between commas in a demo prompt without meaning an object."""
