"""Rewrites Gradio's HTML page: Gradio's name, links and previews are removed, Parley's are added.

Parley's script goes into the head, before Gradio starts, so that a dark page does not flash light. A page can also be
sent with its components' values (`Prefill`): otherwise they are empty until Gradio has started and requested them.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import orjson
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.look.theme import NIGHT, PAPER, script

# Messengers build link previews from these tags, and browsers offer to install an app by its manifest.
_GRADIO_TAGS = re.compile(rb"<meta\s+(?:property=\"og:|name=\"twitter:)[^>]*>|<link rel=\"manifest\"[^>]*>", re.DOTALL)
_CONFIG = re.compile(rb"window\.gradio_config = (\{.*?\});</script>", re.DOTALL)
_BODY_STYLE = f"<style>body.dark{{background:{NIGHT}}}body:not(.dark){{background:{PAPER}}}</style>"


@dataclass(frozen=True)
class Prefill:
    """What a page shows before Gradio has started.

    `props`: properties by component id, as the browser receives them. `skeleton`: HTML that is shown until Gradio has
    built the page; the style sheet then hides it.
    """

    props: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    skeleton: str = ""


MakePrefill = Callable[[Scope], Awaitable[Prefill]]
"""Returns the prefill for the page of a request."""


class BrandedApp:
    """An ASGI app around a Gradio app that rewrites its HTML page and passes everything else through.

    Args:
        extra_head: HTML for the head of this app alone, such as a script.
        make_prefill: returns what the page shows before Gradio has started; by default, the layout's initial values.
    """

    def __init__(
        self, app: ASGIApp, title: str, description: str, extra_head: str = "", make_prefill: MakePrefill | None = None
    ) -> None:
        self._app = app
        self._make_prefill = make_prefill
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
        prefill = await self._make_prefill(scope) if self._make_prefill else Prefill()
        start: Message = {}
        body = bytearray()

        async def send_rewritten(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    page = self._rewrite(bytes(body), prefill)
                    headers = MutableHeaders(scope=start)
                    if scope["method"] != "HEAD":
                        headers["content-length"] = str(len(page))
                    headers["cache-control"] = "no-store"
                    await send(start)
                    await send({"type": "http.response.body", "body": page if scope["method"] != "HEAD" else b""})

        await self._app(scope, receive, send_rewritten)

    def _rewrite(self, page: bytes, prefill: Prefill) -> bytes:
        head, end_tag, rest = page.partition(b"</head>")
        if not end_tag:
            return page
        before, opening, after = _GRADIO_TAGS.sub(b"", head).partition(b"<head>")
        page = before + opening + self._head + after + end_tag + rest
        if prefill.props:
            page = _CONFIG.sub(lambda match: _with_props(match[1], prefill.props), page, count=1)
        if prefill.skeleton:
            page = page.replace(b"<gradio-app", prefill.skeleton.encode() + b"<gradio-app", 1)
        return page


def _with_props(config: bytes, props: Mapping[int, Mapping[str, Any]]) -> bytes:
    """The script with Gradio's configuration, with these properties set on its components."""
    parsed = orjson.loads(config)
    for component in parsed["components"]:
        component["props"] |= props.get(component["id"], {})
    text = orjson.dumps(parsed).decode()
    # Escaped as Gradio does, so that no text can end the script.
    for letter in "<>&'":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f"window.gradio_config = {text};</script>".encode()
