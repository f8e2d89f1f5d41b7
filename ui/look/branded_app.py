"""Rewrites the head of Gradio's HTML page: Gradio's name, links and previews are removed, Parley's are added.

Our script goes into the head, before Gradio starts, so that a dark page does not flash light.
"""

import re
from html import escape

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.look.theme import NIGHT, PAPER, script

# Messengers build link previews from these tags, and browsers offer to install an app by its manifest.
_GRADIO_TAGS = re.compile(rb"<meta\s+(?:property=\"og:|name=\"twitter:)[^>]*>|<link rel=\"manifest\"[^>]*>", re.DOTALL)
_BODY_STYLE = f"<style>body.dark{{background:{NIGHT}}}body:not(.dark){{background:{PAPER}}}</style>"


class BrandedApp:
    """An ASGI app around a Gradio app that rewrites its HTML page and passes everything else through.

    Args:
        extra_head: HTML for the head of this app alone, such as a script.
    """

    def __init__(self, app: ASGIApp, title: str, description: str, extra_head: str = "") -> None:
        self._app = app
        tags = (
            f'<title>{escape(title)}</title><meta name="description" content="{escape(description)}">'
            f'<meta property="og:title" content="{escape(title)}"><meta property="og:site_name" content="Parley">'
            f'<meta property="og:description" content="{escape(description)}">'
            '<link rel="icon" href="/brand/mark.svg">'
        )
        self._head = (tags + _BODY_STYLE + script() + extra_head).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != scope.get("root_path", "") + "/":
            await self._app(scope, receive, send)
            return
        # A compressed page could not be rewritten.
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}
        start: Message = {}
        body = bytearray()

        async def send_rewritten(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    page = self._rewrite(bytes(body))
                    headers = MutableHeaders(scope=start)
                    if scope["method"] != "HEAD":
                        headers["content-length"] = str(len(page))
                    headers["cache-control"] = "no-store"
                    await send(start)
                    await send({"type": "http.response.body", "body": page if scope["method"] != "HEAD" else b""})

        await self._app(scope, receive, send_rewritten)

    def _rewrite(self, page: bytes) -> bytes:
        head, end_tag, rest = page.partition(b"</head>")
        if not end_tag:
            return page
        before, opening, after = _GRADIO_TAGS.sub(b"", head).partition(b"<head>")
        return before + opening + self._head + after + end_tag + rest
