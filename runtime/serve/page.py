"""The page at `/`: one file, which loads nothing and asks only its own server."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from fastapi.responses import HTMLResponse


def page() -> HTMLResponse:
    """The page, with headers that let a browser run its own script and style and nothing else."""
    text = Path(__file__).with_suffix(".html").read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src {_source(text, 'script')};"
        f" style-src {_source(text, 'style')}; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(
        text,
        headers={
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        },
    )


def _source(page: str, element: str) -> str:
    """The hash by which a policy allows the page's one script or style."""
    (content,) = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
