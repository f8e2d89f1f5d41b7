"""The Typer options that the data commands share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import Invalid

if TYPE_CHECKING:
    from train.data.readers import Columns
    from train.data.reports import CheckedData

_READING = "Reading"  # the panel of --help

FILES_HELP = (
    "a .jsonl, .ndjson, .json, .csv, .tsv, .txt, .xlsx or .parquet file; a folder, also one written by "
    "save_to_disk; or a hub data set (owner/name or owner/name:split)"
)
# One line for each value of --format; without square brackets before letters, which Rich takes for markup.
FORMAT_HELP = """auto: detected from the rows.\n
openai: {"messages": [{"role", "content"}]}.\n
sharegpt: {"conversations": [{"from", "value"}]}.\n
gemini: {"contents": [{"role", "parts"}]}.\n
turns: {"turns": ["question", "answer", …]}, also with speakers.\n
alpaca: {"instruction", "input", "output"}.\n
prompt-completion: {"prompt", "completion"}.\n
question-answer: {"question", "answer"}, {"query", "response"}, …\n
preference: {"prompt", "chosen", "rejected"}.\n
openai-preference: {"input", "preferred_output", "non_preferred_output"}.\n
kto: {"prompt", "completion", "label": true or false}.\n
Texts with roles, in a .txt file or a field such as `text`, by the beginning of a turn: chatml (<|im_start|>user),
llama3 (<|start_header_id|>user), gemma (<start_of_turn>user), zephyr (<|user|>), inst (INST in square brackets),
headings (### Human:, ### Instruction:), hh (an empty line and Human:), names (a line with User:, Q:, …)."""

DataArgument = Annotated[str, typer.Argument(help=f"Training data: {FILES_HELP}.", show_default=False)]
Format = Annotated[str, typer.Option(help=FORMAT_HELP, rich_help_panel=_READING)]
Encoding = Annotated[
    str | None,
    typer.Option(
        help="The encoding of a text file, such as cp1252 or utf-16. Default: UTF-8.",
        rich_help_panel=_READING,
        show_default=False,
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
Separator = Annotated[
    str,
    typer.Option(
        help="Plain text: what begins a new conversation. rule: a line of dashes, an end-of-text token or a system "
        "message. blank-line: also an empty line before a question. pair: each question. auto: blank-line if there is "
        "an empty line before each question and before no answer; otherwise rule.",
        rich_help_panel=_READING,
    ),
]
FoldSystem = Annotated[
    bool,
    typer.Option(
        "--fold-system",
        help="Put system messages in the middle of a conversation into the next user turn; if the template does not "
        "support system messages, the first one too. The trained model is served in the same way.",
        rich_help_panel=_READING,
    ),
]
ChatTemplate = Annotated[
    str | None,
    typer.Option(
        help="For a base without a chat template, or to use another one: chatml, gemma, llama3, mistral, plain, "
        "zephyr, or a Jinja file. The result is served with it."
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
    encoding: Encoding = None
    fold_system: FoldSystem = False
    separator: Separator = "auto"

    @property
    def columns(self) -> "Columns":
        """The columns for the readers."""
        from train.data.readers import Columns

        return Columns(
            self.prompt_column, self.response_column, self.system_column, self.system, self.encoding, self.fold_system,
            self.separator,
        )  # fmt: skip

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
