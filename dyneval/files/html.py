"""Tell the browser that opens an HTML file of ours what the file may load and run: nothing from outside.

Reports show prompts and replies, which come from outside. They are escaped everywhere. If that were forgotten in one
place, a prompt could run a script in the browser of whoever opens the report; this policy stops it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence


def content_policy(scripts: Sequence[str] = (), beside: bool = False) -> str:
    """Return the meta element that forbids a page everything but its own styles, embedded pictures and `scripts`.

    Args:
        scripts: the exact texts between `<script>` and `</script>`; each is allowed by its SHA-256.
        beside: also allow pictures and scripts in files, for a page that keeps some in a folder beside it.
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
