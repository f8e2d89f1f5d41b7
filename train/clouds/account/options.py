"""The options of `parley rescue --all` and `parley rescue inventory`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

_PANEL = "The whole account"


def _option(text: str, *flags: str) -> Any:
    return typer.Option(*flags, help=text, rich_help_panel=_PANEL)


@dataclass(frozen=True)
class AccountOptions:
    """The options. `folder` is None for the folder in the home."""

    whole: Annotated[bool, _option("Fetch the whole account into PARLEY_HOME, and import it.", "--all")] = False
    only: Annotated[
        str | None,
        _option("The kinds to fetch, separated by commas: evals, jobs, batches, completions, models, files."),
    ] = None
    folder: Annotated[
        Path | None, _option("Where the account is fetched to. Default: openai-account in PARLEY_HOME.")
    ] = None
    offline: Annotated[bool, _option("Use what is fetched already, without OpenAI.", "--offline")] = False
    verify: Annotated[bool, _option("Compare all copies with their checksums, offline.", "--verify")] = False
    register: Annotated[
        bool, _option("Register each fine-tune that OpenAI still lists as a hosted model.", "--register")
    ] = False
    html: Annotated[Path | None, _option("Write the inventory to this file, as a page to show around.")] = None
