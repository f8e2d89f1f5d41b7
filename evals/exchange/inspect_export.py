"""Exports an eval as a task for Inspect (inspect_ai): task.py, rows.jsonl and the Python graders."""

import json
import re
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

from evals.eval_runs.data_sources import row_messages
from evals.eval_runs.given_answers import given_completion
from evals.exchange import inspect_task
from evals.exchange.assertions import OUTPUT
from evals.exchange.exported_eval import Export, ExportedEval
from evals.exchange.folder import NotMapped
from evals.graders.model_graders import judge_format
from evals.graders.templates import TemplateError, content_texts, has_media, render
from models.chat.messages import as_dicts
from models.errors import ParleyError

TASK, ROWS = "task.py", "rows.jsonl"
# The run's sampling parameter → Inspect's.
_SAMPLING = {
    "temperature": "temperature", "top_p": "top_p", "seed": "seed", "max_completion_tokens": "max_tokens",
    "max_completions_tokens": "max_tokens", "reasoning_effort": "reasoning_effort",
}  # fmt: skip


def inspect_export(exported: ExportedEval) -> Export:
    """The files of a task with the first prompt of an eval; its model is a flag of Inspect's."""
    export = Export()
    if len(exported.requests) > 1:
        export.lost.append("A task has one prompt: the first one is exported. Export a run for another one.")
    request, target = exported.requests[0], _target(exported)
    scorers, parts = [], []
    for criterion in exported.criteria:
        try:
            call, part = _scorer(criterion, target, export)
        except NotMapped as error:
            export.lost.append(f"{criterion['name']} ({criterion['type']}): {error}.")
            continue
        scorers.append(f"            {call},  # {' '.join(criterion['name'].split())}")
        parts += [each for each in part if each not in parts]
    if exported.has_answers:
        parts.append(inspect_task.RECORDED)
    export.files[ROWS] = "".join(_rows(exported, request, target, export))
    name = re.sub(r"\W+", "_", exported.name, flags=re.ASCII).strip("_").lower()[:60]
    if not name.isidentifier() or iskeyword(name) or re.search(rf"\b{name}\b", inspect_task.HEAD + "".join(parts)):
        name = f"eval_{name}".rstrip("_")
    title = " ".join(exported.name.replace("\\", "/").replace('"', "'").split())[:80]
    export.files[TASK] = (
        inspect_task.HEAD.format(title=f"{title}.")
        + "".join(parts)
        + inspect_task.TASK.format(
            name=name,
            solver="recorded_answer()" if exported.has_answers else "generate()",
            scorers="\n".join(scorers),
            config=_config(request.get("sampling_params") or {}, export),
        )
    )
    return export


def _target(exported: ExportedEval) -> str | None:
    """The reference that `includes` can use as the sample's target: that of the first check for a part of the text."""
    for criterion in exported.criteria:
        if criterion["type"] == "string_check" and criterion["operation"] in ("like", "ilike") and _is_plain(criterion):
            return criterion["reference"]
    return None


def _is_plain(criterion: Mapping[str, Any]) -> bool:
    return re.sub(r"\s", "", criterion["input"]) == OUTPUT and "sample" not in criterion["reference"]


def _scorer(criterion: Mapping[str, Any], target: str | None, export: Export) -> tuple[str, list[str]]:
    """The call of a criterion's scorer, and the parts of the program that it needs."""
    match criterion["type"]:
        case "string_check":
            operation = criterion["operation"]
            if operation in ("like", "ilike") and _is_plain(criterion) and criterion["reference"] == target:
                return f"includes(ignore_case={operation == 'ilike'})", []
            call = f"string_check({criterion['input']!r}, {criterion['reference']!r}, {operation!r})"
            return call, [inspect_task.STRING_CHECK]
        case "python":
            path = f"graders/{re.sub(r'[^a-z0-9]+', '_', criterion['name'].lower()).strip('_')[:60] or 'grader'}.py"
            while path in export.files:
                path = path.removesuffix(".py") + "_.py"
            export.files[path] = criterion["source"]
            return f"python_grader({path!r})", [inspect_task.PYTHON]
        case "score_model" | "label_model":
            messages = []
            for message in criterion["input"]:
                role = "system" if message["role"] == "developer" else message["role"]
                if has_media(message["content"]):
                    raise NotMapped("a judge's images are not exported")
                messages.append({"role": role, "content": "\n".join(content_texts(message["content"]))})
            instruction, schema = judge_format(criterion)
            arguments = f"{messages!r}, {instruction!r}, {schema!r}"
            if criterion["type"] == "score_model":
                return f"score_model({arguments})", [inspect_task.JUDGE, inspect_task.SCORE_MODEL]
            passing = list(criterion["passing_labels"])
            return f"label_model({arguments}, {passing!r})", [inspect_task.JUDGE, inspect_task.LABEL_MODEL]
    raise NotMapped("Inspect has no such scorer")


def _rows(exported: ExportedEval, request: Mapping[str, Any], target: str | None, export: Export) -> list[str]:
    lines = []
    for number, row in enumerate(exported.rows, start=1):
        values = {"item": row["item"], "sample": row.get("sample") or {}}
        try:
            messages = [_chat_message(message) for message in as_dicts(row_messages(request, row))]
            reference = render(target, values) if target else ""
        except (TemplateError, NotMapped, ParleyError) as error:
            export.lost.append(f"row {number}: {error}")
            continue
        metadata = dict(row["item"])
        if exported.has_answers:
            metadata["_answer"] = given_completion(row.get("sample") or {}).text
        sample = {"id": number, "input": messages or "(recorded)", "target": reference, "metadata": metadata}
        lines.append(json.dumps(sample, ensure_ascii=False) + "\n")
    return lines


def _chat_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A chat message with Inspect's parts."""
    if message["role"] == "tool" or message.get("tool_calls"):
        raise NotMapped("its tool messages are not exported")
    content = message["content"]
    return {"role": message["role"], "content": content if isinstance(content, str) else [_part(p) for p in content]}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    match part["type"]:
        case "image_url":
            return {"type": "image", "image": part["image_url"]["url"]}
        case "input_audio":
            audio = part["input_audio"]
            data = f"data:audio/{audio['format']};base64,{audio['data']}"
            return {"type": "audio", "audio": data, "format": audio["format"]}
    return {"type": "text", "text": part["text"]}


def _config(sampling: Mapping[str, Any], export: Export) -> str:
    known: dict[str, Any] = {}
    for key, value in sampling.items():
        if value is None:
            continue
        if key in _SAMPLING:
            known[_SAMPLING[key]] = value
        else:
            export.lost.append(f"sampling_params.{key}: set it in task.py.")
    if not known:
        return ""
    return f"        config=GenerateConfig({', '.join(f'{key}={value!r}' for key, value in known.items())}),\n"
