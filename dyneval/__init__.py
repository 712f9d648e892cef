"""DynEval: text-to-image alignment and image quality, each 1-5, through questions made for the very image."""

__version__ = "0.1.0"
