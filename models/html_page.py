"""The page of every HTML report: one file that loads nothing and runs nothing, its style, and its building blocks.

`models/openai_fetch` takes this file along to machines without Parley, so it uses the standard library alone.
"""

from collections.abc import Iterable, Sequence
from html import escape

_SHORT = 40  # characters of a table's cell that stay on one line
_DARK = """--ink: #e9e6df; --soft: #9aa3a3; --line: #2c3338; --paper: #1c2125; --mark: #5bb8a9;
  --second: #e79a7c; --band: #232a2e; --good: #5bb8a9; --bad: #e79a7c;"""
# The page's colours (ui/look/style.css). The page sets data-shade on a report that it shows in a frame.
_STYLE = """
:root { color-scheme: light dark; --ink: #20262a; --soft: #6a6c68; --line: #e3ded3; --paper: #fff; --mark: #2c8a7e;
  --second: #d9714b; --band: #f1ede4; --good: #1d6f66; --bad: #b4532f; }
:root[data-shade=light] { color-scheme: light; }
@media (prefers-color-scheme: dark) { :root:not([data-shade=light]) { _DARK_ } }
:root[data-shade=dark] { color-scheme: dark; _DARK_ }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 64px; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 8px; }
h3 { font-size: 15px; margin: 20px 0 4px; } li, p { max-width: 75ch; }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } .wide > svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: middle;
  font-variant-numeric: tabular-nums; }
th, td.short { white-space: nowrap; } th { font-weight: 600; color: var(--soft); }
td svg, th svg { display: block; }
details { border-bottom: 1px solid var(--line); padding: 8px 0; } summary { cursor: pointer; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin: 8px 0; }
@media (max-width: 640px) { .sides { grid-template-columns: 1fr; } }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, monospace; margin: 4px 0;
  padding: 8px 10px; border: 1px solid var(--line); border-radius: 6px; } code { overflow-wrap: anywhere; }
.cards td:first-child { min-width: 15em; overflow-wrap: anywhere; }
@media (max-width: 720px) {
  .cards tr:first-child { display: none; } .cards, .cards tbody { display: block; }
  .cards tr { display: block; padding: 12px 0; border-bottom: 1px solid var(--line); }
  .cards td { display: grid; grid-template-columns: 92px 1fr; gap: 12px; padding: 2px 0; border: 0;
    min-width: 0; overflow-wrap: anywhere; }
  .cards td::before { content: attr(data-head); color: var(--soft); } .cards td.empty { display: none; } }
""".replace("_DARK_", _DARK)


def page(title: str, body: str) -> str:
    """A whole page. `title` is escaped here; `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already; short cells stay on one line."""
    cells = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td{' class=short' if len(cell) <= _SHORT else ''}>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<div class=wide><table><tr>{cells}</tr>{body}</table></div>"


def cards(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already; on a narrow screen each row is a block that repeats the headings."""
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-head="{escape(name)}"{"" if cell else " class=empty"}><div>{cell}</div></td>'
            for name, cell in zip(head, row)  # noqa: B905 -- Python 3.9 has no strict
        )
        + "</tr>"
        for row in rows
    )
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<div class=wide><table class=cards><tr>{heads}</tr>{body}</table></div>"


def more(summary: str, body: str) -> str:
    """Details behind a click; both are HTML."""
    return f'<details class="more"><summary class=soft>{summary}</summary>{body}</details>'


def notes(sentences: Iterable[str]) -> str:
    """A paragraph for each sentence."""
    return "".join(f"<p class=soft>{escape(sentence)}</p>" for sentence in sentences)


def sides(*columns: tuple[str, str]) -> str:
    """Two columns, each with a heading and a body that are HTML."""
    return (
        "<div class=sides>"
        + "".join(f"<div><p class=soft>{heading}</p>{body}</div>" for heading, body in columns)
        + "</div>"
    )
