"""What reports of one HTML file share: the page that may load nothing, its style, and intervals drawn as SVG."""

from html import escape
from pathlib import Path
from typing import Protocol

from models.atomic import atomic_write
from models.errors import Invalid, NoSpace

_WIDTH, _ROW, _PAD = 320, 22, 10  # of a plot, in pixels

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1d22; --soft: #5d636f; --line: #d9dce2; --paper: #fff; --mark: #2f5fd0;
  --good: #1d7a45; --bad: #b3372f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --soft: #a0a6b2; --line: #3a3f49; --paper: #15171b;
  --mark: #86a8ff; --good: #62c48c; --bad: #f0837a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 64px; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 8px; }
h3 { font-size: 15px; margin: 20px 0 4px; }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: middle;
  font-variant-numeric: tabular-nums; } th { font-weight: 600; color: var(--soft); white-space: nowrap; }
td.number { white-space: nowrap; } td svg { display: block; }
details { border-bottom: 1px solid var(--line); padding: 8px 0; } summary { cursor: pointer; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin: 8px 0; }
@media (max-width: 640px) { .sides { grid-template-columns: 1fr; } }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, monospace; margin: 4px 0;
  padding: 8px 10px; border: 1px solid var(--line); border-radius: 6px; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } svg line { stroke: var(--mark); stroke-width: 2; }
svg line.axis { stroke: var(--line); stroke-width: 1; } svg circle { fill: var(--mark); }
svg line.thin { stroke-width: 1; } code { overflow-wrap: anywhere; }
"""


class Span(Protocol):
    """A mean with its interval; None where it is not known."""

    @property
    def mean(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def page(title: str, body: str) -> str:
    """A whole page, which may load nothing and run nothing. `title` is escaped here, `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def write_page(path: Path, text: str) -> None:
    """Writes a page as one file, whole or not at all.

    Raises:
        Invalid: the file cannot be written.
    """
    try:
        atomic_write(path, text.encode("utf-8", "replace"))
    except NoSpace:
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}.", param="html") from error


def axis(start: float, end: float) -> str:
    """The two ends of an axis, as SVG."""
    return (
        f'<svg width="{_WIDTH}" height="14" role="img" aria-label="from {start:.3g} to {end:.3g}">'
        f'<text x="{_PAD}" y="11">{start:.3g}</text>'
        f'<text x="{_WIDTH - _PAD}" y="11" text-anchor="end">{end:.3g}</text></svg>'
    )


def line(summary: Span, wide: Span | None, start: float, end: float) -> str:
    """An interval as SVG on an axis from `start` to `end`; the wide one thin behind it, and a line at zero."""

    def at(value: float) -> float:
        share = (value - start) / (end - start) if end > start else 0.5
        return round(_PAD + min(max(share, 0.0), 1.0) * (_WIDTH - 2 * _PAD), 1)

    middle = _ROW / 2
    drawn = f'<line class="axis" x1="{_PAD}" x2="{_WIDTH - _PAD}" y1="{middle}" y2="{middle}"/>'
    if start < 0 < end:
        drawn += f'<line class="axis" x1="{at(0)}" x2="{at(0)}" y1="2" y2="{_ROW - 2}"/>'
    for row, kind in ((wide, "thin"), (summary, "")):
        if row and row.low is not None and row.high is not None:
            drawn += f'<line class="{kind}" x1="{at(row.low)}" x2="{at(row.high)}" y1="{middle}" y2="{middle}"/>'
            drawn += "".join(
                f'<line class="{kind}" x1="{at(edge)}" x2="{at(edge)}" y1="{middle - 4}" y2="{middle + 4}"/>'
                for edge in (row.low, row.high)
            )
    if summary.mean is not None:
        drawn += f'<circle cx="{at(summary.mean)}" cy="{middle}" r="4"/>'
    known = (summary.mean, summary.low, summary.high)
    label = " ".join("–" if end is None else f"{end:.3g}" for end in known)
    return f'<svg width="{_WIDTH}" height="{_ROW}" role="img" aria-label="{label}">{drawn}</svg>'
