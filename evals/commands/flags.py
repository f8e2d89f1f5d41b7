"""Flags that several of this room's commands share."""

from pathlib import Path
from typing import Annotated

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", help="Write the report to this file: one self-contained page.")
]
Category = Annotated[str | None, typer.Option(help="Only votes on prompts of this category.")]
CampaignName = Annotated[
    str, typer.Option("--campaign", help="The campaign whose votes count: `parley campaign list`; /vote is `open`.")
]
OpenLinks = Annotated[
    bool, typer.Option("--open-links/--no-open-links", help="Count votes from open links, which need no invite.")
]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Also write a chart: a .html, .svg or .png file.")]


def split_commas(text: str | None) -> list[str]:
    """The parts of a comma-separated value."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
