"""An answer's Markdown as HTML in which nothing can be loaded, followed or sent.

Raw HTML is shown as text. A link becomes its text and address, an image its description. Headings of all levels look
alike and stand below the page's own, so that an answer does not change the page's outline.
"""

from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

_HEADING = "h3"


class _InertRenderer(RendererHTML):
    """Renders links and images without an address to follow."""

    def link_open(
        self, tokens: Sequence[Token], index: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        """Renders nothing: the link's text is enough."""
        return ""

    def link_close(
        self, tokens: Sequence[Token], index: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        """The link's address in brackets, unless it is the text."""
        depth, start = 0, index
        while start >= 0:
            depth += tokens[start].nesting if tokens[start].type.startswith("link_") else 0
            if depth == 0:
                break
            start -= 1
        address = str(tokens[start].attrGet("href") or "")
        text = "".join(token.content for token in tokens[start + 1 : index])
        return f" ({escape(address)})" if address and address != text else ""

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """The image's description."""
        return f"<em>{escape(tokens[idx].content) or '…'}</em>"


def answer_html(text: str) -> str:
    """The answer as safe HTML."""
    return _markdown().render(text)


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}, renderer_cls=_InertRenderer).enable("table")
    markdown.core.ruler.push("level_headings", _level_headings)
    return markdown


def _level_headings(state: Any) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = _HEADING
