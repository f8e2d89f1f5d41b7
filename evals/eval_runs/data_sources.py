"""The data of a run: rows from a request or a file, the messages of each row, and the task that they form.

A row whose messages cannot be rendered is an item with an error; a row that does not match the eval's schema fails the
run.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evals.eval_runs.requests import Row
from evals.graders.templates import TemplateError, as_text, chat_part, look_up, render_messages
from evals.scorers.sample import Sample
from evals.tasks.task import Task, TaskSample, prompt_hash
from models.chat.messages import Message, read_api_message
from models.errors import Invalid, ParleyError
from models.files.stored_files import Files

_OPTIONS = (
    "response_format",
    "tools",
    "seed",
    "temperature",
    "top_p",
    "reasoning_effort",
    "max_completion_tokens",
)


@dataclass(frozen=True)
class RunData:
    """A run's rows as a task, whose samples have item and sample in their metadata. `errors`: place → message."""

    task: Task
    errors: Mapping[int, str]


def read_rows(files: Files, source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a source: {item, sample?}.

    Raises:
        NotFound: there is no such file. Invalid: a line is not a row.
    """
    if source["type"] == "file_content":
        yield from source["content"]
        return
    yield from _read_lines(files.get(source["id"]).path, source["id"])


def _read_lines(path: Path, name: str) -> Iterator[dict[str, Any]]:
    count = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = Row.model_validate(json.loads(line))
            except (ValidationError, ValueError, RecursionError) as error:
                raise Invalid(
                    f'Line {number} of {name} is not a row: use JSON such as {{"item": {{"question": "…"}}}}.',
                    param="data_source.source.id",
                ) from error
            count += 1
            yield row.model_dump(exclude_unset=True)
    if not count:
        raise Invalid(f"The file {name} has no rows: upload one with a row per line.", param="data_source.source.id")


def run_data(
    name: str, source: str, rows: Iterable[Mapping[str, Any]], request: Mapping[str, Any], item_schema: Any = None
) -> RunData:
    """The task of a run.

    Args:
        request: the run's `data_source`. item_schema: the JSON schema of an item, None for any.

    Raises:
        Invalid: an item does not match the schema.
    """
    check = _item_check(item_schema)
    samples: list[TaskSample] = []
    errors: dict[int, str] = {}
    for place, row in enumerate(rows):
        if problem := check(row["item"]):
            raise Invalid(f"Item {place + 1} does not match the eval's item_schema: {problem}.", param="data_source")
        try:
            messages = row_messages(request, row)
        except ParleyError as error:
            messages, errors[place] = (), str(error)
        metadata = {"item": row["item"]} | ({"sample": row["sample"]} if row.get("sample") is not None else {})
        cluster = prompt_hash(messages) if messages else _digest(row["item"])
        samples.append(TaskSample(str(place), messages, Sample(prompt=cluster, metadata=metadata)))
    return RunData(Task(name, source, tuple(samples)), errors)


def model_parameters(sampling: Mapping[str, Any] | None) -> dict[str, Any]:
    """A run's sampling_params as options of a chat completion; only those that are set."""
    given = {name: value for name, value in (sampling or {}).items() if value is not None}
    if "max_completions_tokens" in given:
        given.setdefault("max_completion_tokens", given["max_completions_tokens"])
    if text_format := (given.get("text") or {}).get("format"):
        given["response_format"] = _chat_format(text_format)
    if tools := given.get("tools"):
        given["tools"] = [_chat_tool(tool) for tool in tools]
    return {name: given[name] for name in _OPTIONS if name in given}


def row_messages(request: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages that a run's request makes of a row; none if no model answers.

    Raises:
        TemplateError: a variable has no value, or a message is not one of the API's.
    """
    source = request.get("input_messages")
    if request["type"] == "jsonl" or source is None:
        return ()
    values = {"item": row["item"], "sample": row.get("sample") or {}}
    if source["type"] == "template":
        messages = render_messages(source["template"], values)
    else:
        value = look_up(source["item_reference"].strip("{} "), values)
        messages = [{"role": "user", "content": value}] if isinstance(value, str) else value
    try:
        return tuple(read_api_message(as_message(message)) for message in messages)
    except (ValueError, TypeError, AttributeError) as error:
        raise TemplateError(
            "The messages cannot be used: each needs the role system, developer, user, assistant or tool, and a "
            "content of texts, images (image_url or input_image) and audio (input_audio)."
        ) from error


def as_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of an item as one of a chat completion; the role developer becomes system."""
    role, content = message.get("role"), message.get("content")
    if isinstance(content, list):
        content = [chat_part(part) for part in content]
    tools = {key: message[key] for key in ("tool_calls", "tool_call_id", "name") if message.get(key)}
    return {"role": "system" if role == "developer" else role, "content": content} | tools


def _chat_format(text_format: Mapping[str, Any]) -> dict[str, Any]:
    """The `text.format` of a response as the `response_format` of a chat completion."""
    if text_format.get("type") != "json_schema":
        return dict(text_format)
    return {"type": "json_schema", "json_schema": {key: value for key, value in text_format.items() if key != "type"}}


def _chat_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A function tool of a response as one of a chat completion, which has the function in a field of its own."""
    if tool.get("type") != "function" or "function" in tool:
        return dict(tool)
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def _item_check(schema: Any) -> Any:
    """A function that returns what is wrong with an item, or None."""
    if not schema:
        return lambda item: None
    from evals.scorers.format_checks import schema_validator

    validator = schema_validator(schema)

    def check(item: Any) -> str | None:
        error = next(iter(validator.iter_errors(item)), None)
        return None if error is None else as_text(error.message)[:200]

    return check


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
