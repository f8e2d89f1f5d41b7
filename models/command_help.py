"""Help texts that wrap at the terminal's width, whatever the line breaks of their docstrings."""

import inspect

import typer


def unwrap_help(app: typer.Typer) -> None:
    """Joins the lines of each paragraph in the help of all commands, because Typer keeps those after the first one.

    Indented paragraphs (examples) stay as they are.
    """
    for command in app.registered_commands:
        text = command.help or inspect.getdoc(command.callback)
        command.help = _unwrap(text) if text else None
    for group in app.registered_groups:
        if group.typer_instance is not None:
            unwrap_help(group.typer_instance)


def _unwrap(text: str) -> str:
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(part if part.startswith((" ", "\b")) else part.replace("\n", " ") for part in paragraphs)
