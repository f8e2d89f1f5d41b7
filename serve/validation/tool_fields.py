"""Tools in a request to an engine: unsupported ones are refused; the arguments of a forced call follow their schema.

Sources: OpenAI's API (an empty `tools` is an error of chat completions only); vLLM 0.32, entrypoints/openai. On
/v1/responses vLLM answers with plain text if the model has no parser for tool calls, if it does not know the type of
the tool choice, or if a tool is one that runs at OpenAI. Parley refuses such requests.
"""

from collections.abc import Mapping
from typing import Any

from models.errors import Invalid

# A body without these fields needs no check.
TOOL_FIELDS = frozenset({"tools", "tool_choice"})
_MESSAGES = "/v1/messages"
_RESPONSES = "/v1/responses"
_FORCED = frozenset({"required", "any"})
_NAMED_KINDS = frozenset({"function", "custom", "tool"})
_OWN_KINDS = frozenset({"function", "custom", "namespace"})


def check_tools(path: str, body: Mapping[str, Any], model: str, *, supported: bool) -> None:
    """Rejects tools that the model or vLLM would ignore.

    Args:
        model: the model's id, for the message.
        supported: whether the model's engine has a parser for tool calls.

    Raises:
        Invalid: `param` is `tools` or `tool_choice`.
    """
    tools, choice = body.get("tools"), body.get("tool_choice")
    if tools == [] and path != _RESPONSES and not path.startswith(_MESSAGES):
        raise Invalid(
            "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            param="tools",
            code="empty_array",
        )
    if path == _RESPONSES:
        _check_responses(tools, choice)
    _check_named_tool(tools, choice)
    if tools and not supported and _kind(choice) != "none":
        raise no_tools(model)


def no_tools(model: str) -> Invalid:
    """The error for a model whose engine has no parser for tool calls. It names Parley's own option."""
    return Invalid(
        f"The model {model!r} does not support tools: Parley knows no tool format for its family and chat template. "
        'Send the request without tools or with tool_choice "none", or register the model with --tool-call-parser NAME '
        "(docs/serving.md).",
        param="tools",
        code="unsupported_parameter",
    )


def constrain_forced_call(path: str, body: dict[str, Any], *, toy: bool = False) -> dict[str, Any]:
    """The body with `"strict": true` on each tool without `strict`, if a call is forced; otherwise the same object.

    A forced call is generated even if the model was not trained to call tools, and without `strict` vLLM would accept
    any JSON as its arguments. A named function is called once, unless the request sets `parallel_tool_calls`.

    Args:
        toy: the model is too small to know when to stop calling, so it may call once only.
    """
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not isinstance(tools, list) or not _is_forced(choice):
        return body
    forced = {**body, "tools": [_with_strict(path, tool) for tool in tools]}
    if path.startswith(_MESSAGES):
        if toy and isinstance(choice, dict):
            forced["tool_choice"] = {"disable_parallel_tool_use": True, **choice}
    elif body.get("parallel_tool_calls") is None and (toy or isinstance(choice, dict)):
        forced["parallel_tool_calls"] = False
    return forced


def _with_strict(path: str, tool: Any) -> Any:
    if not isinstance(tool, dict):
        return tool
    if path != "/v1/chat/completions":
        named = path.startswith(_MESSAGES) or tool.get("type") == "function"
        return {**tool, "strict": True} if named and tool.get("strict") is None else tool
    function = tool.get("function")
    if not isinstance(function, dict) or function.get("strict") is not None:
        return tool
    return {**tool, "function": {**function, "strict": True}}


def _kind(choice: Any) -> Any:
    return choice.get("type") if isinstance(choice, dict) else choice


def _is_forced(choice: Any) -> bool:
    kind = _kind(choice)
    return isinstance(kind, str) and kind in (_FORCED if not isinstance(choice, dict) else _FORCED | _NAMED_KINDS)


def _check_named_tool(tools: Any, choice: Any) -> None:
    """Rejects a tool_choice whose tool is not among the request's tools. The engine rejects other mistakes in both."""
    if not isinstance(tools, list) or not isinstance(choice, dict):
        return
    name = _name(choice)
    if name is None or any(_kind(tool) == "namespace" for tool in tools):  # a namespace has tools of its own
        return
    if name not in {_name(tool) for tool in tools}:
        raise Invalid(f"Tool choice {name[:64]!r} not found in 'tools' parameter.", param="tool_choice")


def _name(tool: Any) -> Any:
    """The name of a tool or of a tool choice: chat completions have it in an object of its own."""
    if not isinstance(tool, dict):
        return None
    kind = tool.get("type")
    nested = tool.get(kind) if isinstance(kind, str) else None
    name = nested.get("name") if isinstance(nested, dict) else tool.get("name")
    return name if isinstance(name, str) else None


def _check_responses(tools: Any, choice: Any) -> None:
    kind = _kind(choice)
    if isinstance(choice, dict) and not (isinstance(kind, str) and kind in _NAMED_KINDS):
        raise Invalid(
            f"A tool_choice of type {str(kind)[:40]!r} is not supported: use auto, none, required or a function.",
            param="tool_choice",
            code="unsupported_parameter",
        )
    for place, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and isinstance(tool.get("type"), str) and tool["type"] not in _OWN_KINDS:
            raise Invalid(
                f"The tool type {tool['type'][:40]!r} is not supported: this model has no built-in tools. "
                "Define a function that your program runs.",
                param=f"tools[{place}].type",
                code="unsupported_parameter",
            )
