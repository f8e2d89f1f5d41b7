"""Reads the rows of `parley generate` as requests and formats answers as lines. It sends nothing.

A row is a `prompt` (or `input`), `messages` as in the API, a line of OpenAI's Batch API (`custom_id`, `method`, `url`,
`body`), or a line of a CSV or TSV file. All rows are checked before the first request.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import Invalid, NotFound, ParleyError

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")


@dataclass(frozen=True)
class Row:
    """One request. `line`: its line in the file; `path`: below /v1; `batch`: the output has the Batch API's format."""

    line: int
    path: str
    body: Mapping[str, Any]
    custom_id: str | None = None
    batch: bool = False


def read_rows(file: Path, *, model: str | None, options: Mapping[str, Any], prompt_column: str = "prompt") -> list[Row]:
    """Reads every row of a file in order.

    Args:
        model: the model for every row; None: each row must name its own.
        options: OpenAI options such as max_tokens, for rows that do not set them.

    Raises:
        NotFound: there is no such file. Invalid: the file or a row cannot be read; the message names the line.
    """
    rows: list[Row] = []
    lines_of: dict[str, int] = {}
    separator = _SEPARATORS.get(file.suffix.lower())
    try:
        with file.open(encoding="utf-8-sig", newline="" if separator else "\n") as stream:
            for line, content in _table(stream, separator, prompt_column) if separator else _objects(stream):
                try:
                    row = _row(line, content, model, options, prompt_column)
                    if row.custom_id is not None and lines_of.setdefault(row.custom_id, line) != line:
                        raise Invalid(f"its custom_id is also that of line {lines_of[row.custom_id]}")
                except Invalid as error:
                    raise Invalid(f"{file}, line {line}: {error}.", param=error.param) from error
                rows.append(row)
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {file}.") from error
    except (UnicodeDecodeError, OSError, csv.Error) as error:
        raise Invalid(f"{file} cannot be read as UTF-8 text: {error}.") from error
    except _NotAnObject as error:
        raise Invalid(f"{file}, {error}.") from error
    if not rows:
        raise Invalid(f"{file} has no rows.")
    return rows


def answer_line(row: Row, answer: object, error: ParleyError | None) -> dict[str, Any]:
    """The output line of a row: its answer, or its error."""
    failure = error and {"code": error.code or error.kind, "message": error.message}
    if row.batch:
        response = None if error else {"status_code": 200, "request_id": None, "body": answer}
        return {"id": f"line_{row.line}", "custom_id": row.custom_id, "response": response, "error": failure}
    id_fields = {} if row.custom_id is None else {"custom_id": row.custom_id}
    head = {"line": row.line, **id_fields, "model": row.body["model"]}
    if error is not None or not isinstance(answer, dict):
        return {**head, "answer": None, "finish_reason": None, "usage": None, "error": failure}
    choice = answer["choices"][0]
    message = choice["message"]
    calls = {"tool_calls": message["tool_calls"]} if message.get("tool_calls") else {}
    answer_fields = {"answer": message.get("content"), **calls, "finish_reason": choice.get("finish_reason")}
    return {**head, **answer_fields, "usage": answer.get("usage"), "error": None}


def tokens_of(answer: object) -> int:
    """The completion tokens of a response; 0 if the server reports none."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return 0
    count = usage.get("completion_tokens", usage.get("output_tokens"))
    return count if isinstance(count, int) else 0


class _NotAnObject(ValueError):
    """A line is not a JSON object. The message follows "FILE, "."""


def _objects(stream: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except ValueError as error:
            raise _NotAnObject(f"line {number}: not valid JSON ({error})") from error
        if not isinstance(content, dict):
            raise _NotAnObject(f"line {number}: expected an object with `prompt`, `messages` or `body`")
        yield number, content


def _table(stream: Iterator[str], separator: str, prompt_column: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(stream, delimiter=separator)
    if prompt_column not in (reader.fieldnames or ()):
        columns = ", ".join(reader.fieldnames or ()) or "nothing"
        raise Invalid(f"There is no column {prompt_column!r} (the file has {columns}). Name one with --prompt-column.")
    for content in reader:
        stored = {name: content[name] for name in (prompt_column, "custom_id", "id") if content.get(name)}
        yield reader.line_num, stored


def _row(
    line: int, content: Mapping[str, Any], model: str | None, options: Mapping[str, Any], prompt_column: str
) -> Row:
    custom_id = content.get("custom_id", content.get("id"))
    if custom_id is not None and not isinstance(custom_id, str | int):
        raise Invalid("`custom_id` must be a string")
    batch = "body" in content
    path = "/chat/completions"
    if batch:
        body, url = content["body"], content.get("url", _URLS[0])
        if not isinstance(body, dict):
            raise Invalid("`body` must be an object, a request as in the API")
        if url not in _URLS or content.get("method", "POST") != "POST":
            raise Invalid(f"`url` must be one of {', '.join(_URLS)}, with method POST")
        path = url.removeprefix("/v1")
        if body.get("stream"):
            raise Invalid("`stream` is not supported: remove it")
        # A token limit means nothing for embeddings and has another name in the Responses API.
        options = options if path in ("/chat/completions", "/completions") else {}
    else:
        body = {"messages": _messages(content, prompt_column)}
    chosen_model = model or body.get("model")
    if not isinstance(chosen_model, str) or not chosen_model:
        raise Invalid("no model: set --model", param="model")
    return Row(
        line, path, {**options, **body, "model": chosen_model}, None if custom_id is None else str(custom_id), batch
    )


def _messages(content: Mapping[str, Any], prompt_column: str) -> list[Any]:
    if "messages" in content:
        messages = content["messages"]
        if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
            raise Invalid("`messages` must be a list of messages, each with a role and content")
        return messages
    prompt = content.get(prompt_column, content.get("input"))
    if not isinstance(prompt, str) or not prompt.strip():
        raise Invalid(f"expected a non-empty `{prompt_column}`, `messages` or `body`")
    return [{"role": "user", "content": prompt}]
