"""Gradio's page made ours: its own name, links and previews go out, Parley's go in. It works on finished HTML.

The script goes into the head of the page itself, before Gradio starts, so that dark pages do not flash light.
"""

import re
from html import escape

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.look.theme import NIGHT, PAPER, script

# Previews of a link in a messenger come from these; Gradio's say Gradio. Its manifest is for an app to be installed.
_THEIRS = re.compile(rb"<meta\s+(?:property=\"og:|name=\"twitter:)[^>]*>|<link rel=\"manifest\"[^>]*>", re.DOTALL)
_BODY = f"<style>body.dark{{background:{NIGHT}}}body:not(.dark){{background:{PAPER}}}</style>"


class Dressed:
    """An ASGI app around a Gradio app: its one HTML page is rewritten, everything else passes as it is.

    `more` is HTML for its head, such as a script that this app alone needs.
    """

    def __init__(self, app: ASGIApp, title: str, description: str, more: str = "") -> None:
        self._app = app
        tags = (
            f'<title>{escape(title)}</title><meta name="description" content="{escape(description)}">'
            f'<meta property="og:title" content="{escape(title)}"><meta property="og:site_name" content="Parley">'
            f'<meta property="og:description" content="{escape(description)}">'
            '<link rel="icon" href="/brand/mark.svg">'
        )
        self._head = (tags + _BODY + script() + more).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != scope.get("root_path", "") + "/":
            await self._app(scope, receive, send)
            return
        # What is compressed cannot be rewritten.
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}
        start: Message = {}
        body = bytearray()

        async def whole(message: Message) -> None:
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

        await self._app(scope, receive, whole)

    def _rewrite(self, page: bytes) -> bytes:
        head, mark, rest = page.partition(b"</head>")
        if not mark:
            return page
        before, opening, after = _THEIRS.sub(b"", head).partition(b"<head>")
        return before + opening + self._head + after + mark + rest
