"""Pages without Gradio: the sign-in form, "no such bot", "page not found". No script, nothing fetched."""

from html import escape
from importlib.resources import files

from starlette.responses import HTMLResponse


def static_page(title: str, body: str, status: int = 200, language: str = "en") -> HTMLResponse:
    """A small HTML page. `body` is HTML that the caller has made safe, and `title` and `language` are plain text."""
    mark, style = (files("ui.look").joinpath(name).read_text(encoding="utf-8") for name in ("mark.svg", "static.css"))
    return HTMLResponse(
        f'<!doctype html><html lang="{escape(language)}"><head><meta charset="utf-8">'
        f"<title>{escape(title)} · Parley</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="/brand/mark.svg"><style>{style}</style></head>'
        f'<body><main><div class="who">{mark}Parley</div>{body}</main></body></html>',
        status_code=status,
        headers={"cache-control": "no-store"},
    )
