"""The Typer options that the data commands share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

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
FoldSystem = Annotated[
    bool,
    typer.Option(
        "--fold-system",
        help="Put each system message in the middle of a conversation into the next user turn; for a template without "
        "system messages the first one too. The trained model is served in the same way.",
        rich_help_panel=_READING,
    ),
]
ChatTemplate = Annotated[
    str | None,
    typer.Option(
        help="For a base without a chat template, or to use another one: chatml, gemma, llama3, mistral, plain, "
        "zephyr, or a Jinja file. It is served with the result."
    ),
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
    fold_system: FoldSystem = False

    @property
    def columns(self) -> "Columns":
        """The columns as the readers take them."""
        from train.data.readers import Columns

        return Columns(self.prompt_column, self.response_column, self.system_column, self.system, self.fold_system)

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
