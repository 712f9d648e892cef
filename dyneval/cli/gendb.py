"""What a GenDB holds, parts of it, and other forms of it, see `dyneval.generation.gendb_cli`."""

from dyneval.generation.gendb_cli import main

__all__ = ["main"]
