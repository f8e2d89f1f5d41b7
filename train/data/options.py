"""The Typer options that the data commands share, and a decorator that makes flags of a dataclass's fields."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from models.errors import Invalid

if TYPE_CHECKING:
    from train.data.readers import Columns
    from train.data.reports import CheckedData

_READING = "Reading"  # the panel of --help

DataArgument = Annotated[
    str,
    typer.Argument(
        help="Training data: .jsonl, .json, .csv, .tsv, .parquet, a folder, or a hub data set (owner/name).",
        show_default=False,
    ),
]
Format = Annotated[
    str,
    typer.Option(
        help="auto, openai, openai-preference, preference, sharegpt, turns, alpaca, prompt-completion or "
        "question-answer.",
        rich_help_panel=_READING,
    ),
]
PromptColumn = Annotated[str, typer.Option(help="Tables: the column with the question.", rich_help_panel=_READING)]
ResponseColumn = Annotated[str, typer.Option(help="Tables: the column with the answer.", rich_help_panel=_READING)]
SystemColumn = Annotated[
    str | None, typer.Option(help="Tables: a column with the system message.", rich_help_panel=_READING)
]
System = Annotated[
    str | None, typer.Option(help="A system message for conversations that have none.", rich_help_panel=_READING)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
PerTurn = Annotated[bool, typer.Option("--per-turn", help="Make one example per answer, with all messages before it.")]


@dataclass(frozen=True)
class ReadingOptions:
    """How a command reads its data: the row format and, for tables, the columns."""

    format: Format = "auto"
    prompt_column: PromptColumn = "prompt"
    response_column: ResponseColumn = "response"
    system_column: SystemColumn = None
    system: System = None

    @property
    def columns(self) -> "Columns":
        """The columns as the readers take them."""
        from train.data.readers import Columns

        return Columns(self.prompt_column, self.response_column, self.system_column, self.system)

    def load(self, data: str) -> "CheckedData":
        """The examples without errors. `parley data check` reports what is wrong with the others.

        Raises:
            Invalid: every example has errors.
        """
        from train.data.checks import check

        checked = check(data, self.columns, format=self.format, provider="local")
        if not checked.examples and not checked.preferences:
            raise Invalid(
                f"Every example in {data} has errors. Run `parley data check` to see how to fix them.", param="data"
            )
        return checked


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one flag for each field of those parameters that are dataclasses of options."""
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    groups = {name: hints[name] for name in signature.parameters if is_dataclass(hints[name])}
    own = [item for item in signature.parameters.values() if item.name not in groups]
    flags = {name: _flags(group) for name, group in groups.items()}

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        options = {name: groups[name](**{flag.name: values.pop(flag.name) for flag in flags[name]}) for name in groups}
        command(**values, **options)

    parameters = [*own, *(flag for group in flags.values() for flag in group)]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads it
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _flags(options: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(options, include_extras=True)
    return [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in inspect.signature(options).parameters.items()
    ]
