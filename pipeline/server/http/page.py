"""The page for people, which may run nothing but its own script and ask nobody else."""

import base64
import hashlib
import re
from pathlib import Path

from starlette.responses import Response

from pipeline.options.config import InferenceOptions
from pipeline.server.errors import ApiError

_PAGE = Path(__file__).with_name("page.html")
_DEFAULT = re.compile(r'value="default:(\w+)"')  # an option of the inference stage
_INLINE = re.compile(r"<(script|style)[^>]*>(.*?)</\1>", re.DOTALL)


def page() -> Response:
    """`page.html` under a policy that names the hashes of its own script and style.

    Raises:
        ApiError: 404, there is no page.
    """
    if not _PAGE.is_file():
        raise ApiError(404, "There is no page here; programs ask below /v1.", code="not_found")
    text = page_text()
    headers = {
        "Content-Security-Policy": _policy(text),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(text, media_type="text/html", headers=headers)


def page_text() -> str:
    """`page.html` with the sampling defaults in its form."""
    defaults = InferenceOptions()
    return _DEFAULT.sub(
        lambda found: f'value="{getattr(defaults, found[1]):g}"', _PAGE.read_text("utf-8")
    )


def _policy(text: str) -> str:
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    own = [f"{kind}-src {' '.join(found)}" for kind, found in hashes.items() if found]
    rest = ["connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'none'"]
    return "; ".join(["default-src 'none'", *own, *rest, "frame-ancestors 'none'"])
