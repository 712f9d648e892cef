"""What an HTML file of ours may load and run, told to the browser that opens it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence


def content_policy(scripts: Sequence[str] = (), beside: bool = False) -> str:
    """Return the meta element that forbids a page all but its own styles, embedded pictures and `scripts`.

    Text from prompts and models is escaped everywhere; where that were forgotten once, it would still run nothing.

    Args:
        scripts: what stands between `<script>` and `</script>`, to the letter; each is allowed by its SHA-256.
        beside: allow pictures and scripts in files, too, for a page that keeps some in a folder beside it.
    """
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    files = ["'self'", "file:"] if beside else []
    allowed = {
        "default-src": ["'none'"],
        "img-src": ["data:", *files],
        "style-src": ["'unsafe-inline'"],
        "script-src": [f"'sha256-{digest}'" for digest in digests] + files,
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    policy = "; ".join(f"{name} {' '.join(sources)}" for name, sources in allowed.items() if sources)
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
