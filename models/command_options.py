"""Command-line options made of fields: of the settings, or of a dataclass that groups the options of a command."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from models.settings.settings import Settings


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


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one flag for each field of those parameters that are dataclasses of options."""
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    groups = {name: hints[name] for name in signature.parameters if is_dataclass(hints.get(name))}
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
