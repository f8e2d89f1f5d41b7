"""promptfoo's results as evals and completed runs of the evals API, with their recorded verdicts.

Reads `promptfoo eval -o results.json` and `promptfoo export`, versions 2 to 4, and results as JSONL. One eval is made
of a file, and one run for each provider and prompt. Objects are the API's, which `openai_dump` imports.
"""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.eval_runs.openai_dump import Dump
from evals.exchange.assertion_slots import Losses, PromptfooTest, grade_recorded
from evals.exchange.assertions import model_name
from evals.exchange.folder import NotMapped, read_json
from evals.exchange.nunjucks import variables

MOST_RESULTS = 200_000
_ERROR = 2  # promptfoo's failureReason of a provider's error; 1 is a failed assertion
_KEPT = ("type", "value", "threshold", "metric", "weight", "provider", "rubricPrompt", "config")


@dataclass(frozen=True)
class _Result:
    """One answer with its verdicts: the assertion and the result of each."""

    test: PromptfooTest
    raw: Mapping[str, Any]
    verdicts: Sequence[Mapping[str, Any]]


def results_of(value: Any) -> list[Any] | None:
    """The results in a file of promptfoo's; None for anything else."""
    found = value.get("results") if isinstance(value, dict) else value
    if isinstance(found, dict):
        found = found.get("results")
    if not isinstance(found, list) or (found and not any(_is_result(each) for each in found)):
        return None
    return found if found or isinstance(value, dict) else None


def add_results(dump: Dump, file: Path, value: Any, losses: Losses) -> None:
    """Adds a file's eval, runs and output items to a dump.

    Raises:
        NotMapped: there are no results, or too many.
    """
    raw = results_of(value) or []
    if not raw:
        raise NotMapped(f"{file.name} has no results")
    if len(raw) > MOST_RESULTS:
        raise NotMapped(f"{file.name} has more than {MOST_RESULTS:,} results")
    results = list(_results(raw, losses))
    digest = hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:20]
    graded = grade_recorded([result.test for result in results], losses)
    eval_id = f"eval_{digest}"
    schema = {"type": "object", "properties": {"item": {"type": "object"}}, "required": ["item"]}
    dump.add(
        {
            "object": "eval",
            "id": eval_id,
            "name": _name(value, file),
            "data_source_config": {"type": "custom", "schema": schema},
            "testing_criteria": graded.criteria,
        }
    )
    runs: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, result in enumerate(results):
        runs[_provider(result.raw), _prompt_key(result.raw)].append(place)
    several = len({prompt for _, prompt in runs}) > 1
    for number, ((provider, _), places) in enumerate(runs.items(), start=1):
        run_id = f"evalrun_{digest}_{number}"
        name = f"{provider}, {_prompt_label(results[places[0]].raw)}" if several else provider
        items = [
            _item(run_id, eval_id, place, results[each], graded.items[each], graded.ids[results[each].test.place])
            for place, each in enumerate(places)
        ]
        for item in items:
            dump.add(item)
        dump.add(_run(run_id, eval_id, name, model_name(provider), items))
    costs = sum(1 for result in results if result.raw.get("cost"))
    if costs:
        losses.add(f"the costs of {costs} answers have no place in an eval")


def _is_result(value: Any) -> bool:
    return isinstance(value, dict) and "vars" in value and ("success" in value or "gradingResult" in value)


def _results(raw: Sequence[Any], losses: Losses) -> Iterator[_Result]:
    for place, each in enumerate(raw, start=1):
        if not _is_result(each) or not isinstance(each["vars"], dict):
            losses.add("the result is not imported, because it has no vars and verdict", place)
            continue
        verdicts = []
        for verdict in _verdicts(each.get("gradingResult")):
            assertion = verdict.get("assertion")
            if not isinstance(assertion, dict) or not isinstance(assertion.get("type"), str):
                losses.add("a verdict is not imported, because it does not say of which assertion it is", place)
            elif assertion["type"] != "assert-set":  # its parts are verdicts of their own
                verdicts.append(verdict)
        values = {str(name): value for name, value in each["vars"].items()}
        assertions = [_assertion(verdict) for verdict in verdicts]
        yield _Result(PromptfooTest(place, values, assertions), each, verdicts)


def _assertion(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict's assertion as the tests of a configuration have it; a part of another type is left out."""
    raw, metadata = verdict["assertion"], verdict.get("metadata")
    rendered = metadata.get("renderedAssertionValue") if isinstance(metadata, dict) else None
    kept = {key: raw[key] for key in _KEPT if raw.get(key) is not None}
    for key in ("threshold", "weight"):
        if key in kept and not _is_number(kept[key]):
            del kept[key]
    if rendered is not None and not _is_readable(kept.get("value")):
        kept["value"] = rendered
    kept.pop("weight", None)  # the recorded verdicts of the parts do not depend on it
    return kept


def _is_readable(value: Any) -> bool:
    """Whether a value has variables only, and no other templates."""
    try:
        _ = variables(value) if isinstance(value, str) else []
    except NotMapped:
        return False
    return True


def _verdicts(grading: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The verdicts of single assertions; those of sets are nested in some versions."""
    parts = grading.get("componentResults") if isinstance(grading, dict) else None
    for part in parts if isinstance(parts, list) and depth < 8 else []:
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("componentResults"), list) and part["componentResults"]:
            yield from _verdicts(part, depth + 1)
        else:
            yield part


def _name(value: Any, file: Path) -> str:
    config = value.get("config") if isinstance(value, dict) else None
    description = config.get("description") if isinstance(config, dict) else None
    return str(description or file.stem)[:1000]


def _provider(raw: Mapping[str, Any]) -> str:
    provider = raw.get("provider")
    if isinstance(provider, dict):
        provider = provider.get("id") or provider.get("label")
    return str(provider or "unknown")[:255]


def _prompt(raw: Mapping[str, Any]) -> str:
    prompt = raw.get("prompt")
    return str(prompt.get("raw", "") if isinstance(prompt, dict) else prompt or "")


def _prompt_key(raw: Mapping[str, Any]) -> str:
    """What distinguishes the prompts of a file; version 2 has no numbers."""
    return str(raw["promptIdx"]) if "promptIdx" in raw else _prompt_label(raw)


def _prompt_label(raw: Mapping[str, Any]) -> str:
    prompt = raw.get("prompt")
    label = prompt.get("label") or prompt.get("display") if isinstance(prompt, dict) else None
    return str(label or f"prompt {raw.get('promptIdx', 0)}").split("\n")[0][:80]


def _item(
    run_id: str, eval_id: str, place: int, result: _Result, item: Mapping[str, Any], ids: Sequence[str | None]
) -> dict[str, Any]:
    raw = result.raw
    failed = raw.get("failureReason") == _ERROR or ("gradingResult" not in raw and bool(raw.get("error")))
    status = "error" if failed else "pass" if raw.get("success") else "fail"
    verdicts = [
        {
            "name": criterion,
            "type": verdict["assertion"]["type"],
            "score": _score(verdict),
            "passed": bool(verdict.get("pass")),
            "sample": None,
        }
        for criterion, verdict in zip(ids, result.verdicts, strict=True)
        if criterion is not None
    ]
    return {
        "object": "eval.run.output_item",
        "id": f"outputitem_{run_id.removeprefix('evalrun_')}_{place}",
        "run_id": run_id,
        "eval_id": eval_id,
        "status": status,
        "datasource_item_id": place,
        "datasource_item": dict(item),
        "results": verdicts,
        "sample": _sample(raw) | ({"error": {"message": str(raw.get("error") or "no answer")}} if failed else {}),
    }


def _sample(raw: Mapping[str, Any]) -> dict[str, Any]:
    response = raw.get("response") if isinstance(raw.get("response"), dict) else {}
    assert isinstance(response, dict)
    output = response.get("output")
    text = output if isinstance(output, str) else "" if output is None else json.dumps(output, ensure_ascii=False)
    tokens = response.get("tokenUsage") or raw.get("tokenUsage")
    tokens = tokens if isinstance(tokens, dict) else {}
    sample: dict[str, Any] = {
        "input": _input(_prompt(raw)),
        "output": [{"role": "assistant", "content": text}],
        "model": model_name(_provider(raw)),
        "usage": {"prompt_tokens": tokens.get("prompt"), "completion_tokens": tokens.get("completion")},
        "finish_reason": response.get("finishReason"),
    }
    return sample | ({"latency_ms": raw["latencyMs"]} if _is_number(raw.get("latencyMs")) else {})


def _input(prompt: str) -> list[Any]:
    """The messages of a rendered prompt."""
    if prompt.lstrip().startswith("["):
        try:
            messages = read_json(prompt, "prompt")
        except NotMapped:
            messages = None
        if isinstance(messages, list) and all(isinstance(each, dict) and "role" in each for each in messages):
            return messages
    return [{"role": "user", "content": prompt}] if prompt else []


def _run(run_id: str, eval_id: str, name: str, model: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    statuses = Counter(item["status"] for item in items)
    verdicts: dict[str, Counter[bool]] = defaultdict(Counter)
    for item in items:
        for verdict in item["results"]:
            verdicts[verdict["name"]][verdict["passed"]] += 1
    used = [item["sample"]["usage"] for item in items]
    tokens = {key: sum(_count(usage[key]) for usage in used) for key in ("prompt_tokens", "completion_tokens")}
    return {
        "object": "eval.run",
        "id": run_id,
        "eval_id": eval_id,
        "name": name,
        "model": model,
        "status": "completed",
        "data_source": {"type": "jsonl", "source": {"type": "file_content", "content": []}},
        "result_counts": {
            "total": len(items), "passed": statuses["pass"], "failed": statuses["fail"], "errored": statuses["error"],
        },
        "per_testing_criteria_results": [
            {"testing_criteria": criterion, "passed": counts[True], "failed": counts[False]}
            for criterion, counts in verdicts.items()
        ],
        "per_model_usage": [{"model_name": model, "invocation_count": len(items), **tokens}],
    }  # fmt: skip


def _score(verdict: Mapping[str, Any]) -> float:
    score: Any = verdict.get("score")
    return float(score) if _is_number(score) else float(bool(verdict.get("pass")))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
