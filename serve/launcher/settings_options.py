"""Command-line options generated from `models.settings.Settings`, with each setting's name, type and description."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from models.settings import Settings


def settings_options(panels: Mapping[str, str | None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that replaces a command's `**settings` with one option per setting, None where it is not given.

    Args:
        panels: setting name → help panel, in the order of the help page.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [item for item in signature.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
        options = [_option(name, panel) for name, panel in panels.items()]
        command.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore -- read by Typer
        return command

    return decorate


def _option(name: str, panel: str | None) -> inspect.Parameter:
    field = Settings.model_fields[name]
    unset = field.default is None
    text = f"{field.description}" if unset else f"{field.description} Default: {field.default}."
    option = typer.Option(help=text, rich_help_panel=panel)
    annotation: Any = Annotated[_base_type(field.annotation) | None, option]  # pyrefly: ignore -- made at run time
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _base_type(annotation: Any) -> Any:
    """The type of a value on the command line. Settings themselves check a Literal's choices."""
    if get_origin(annotation) is Literal:
        return str
    return next((kind for kind in get_args(annotation) if kind is not type(None)), annotation)
