"""Imports promptfoo's configurations, as promptfooconfig.yaml: tests become rows, assertions graders, prompts runs."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select

from evals.api_tables import EvalRow
from evals.eval_runs.evals import config_json
from evals.eval_runs.requests import EvalCreate, RunCreate
from evals.exchange.assertion_slots import Graded, Losses, PromptfooTest, grade_tests, group_tests
from evals.exchange.folder import Folder, NotMapped
from evals.exchange.planned_runs import PLANNED
from evals.exchange.promptfoo_prompts import Prompt, Provider, read_prompts, read_providers
from evals.exchange.promptfoo_tests import TestReader
from evals.tasks.answer_cache import storable_text
from models.database import Database
from models.files.stored_files import Files
from models.settings.settings import Settings

ROWS_FILE = "rows.jsonl"
_READ = {"description", "prompts", "providers", "targets", "tests", "defaultTest", "assertionTemplates"}
_WITHOUT_EFFECT = {"$schema", "outputPath", "sharing", "tags", "writeLatestResults", "commandLineOptions"}


@dataclass(frozen=True)
class ImportedEval:
    """An eval made of a configuration; `new` is False if it was there already."""

    id: str
    name: str
    rows: int
    runs: int
    new: bool


@dataclass(frozen=True)
class _Configuration:
    name: str
    prompts: Sequence[Prompt]
    providers: Sequence[Provider]
    tests: Sequence[PromptfooTest]


def is_config(value: Any) -> bool:
    """Whether a JSON value looks like a configuration."""
    return isinstance(value, dict) and "prompts" in value and bool({"tests", "providers", "targets"} & set(value))


def import_config(
    settings: Settings, database: Database, file: Path, judge: str | None, losses: Losses
) -> list[ImportedEval]:
    """Imports a configuration as evals: one, or several if only some of the tests have an assertion with a model.

    Args:
        judge: the model for rubrics that name none.

    Raises:
        NotMapped: the file cannot be read, or has no prompts or tests.
    """
    folder = Folder(file.parent)
    config = _read(folder, file.name, losses)
    groups = group_tests(config.tests, judge)
    made = []
    for number, tests in enumerate(groups, start=1):
        title = config.name if len(groups) == 1 else f"{config.name} ({number} of {len(groups)})"
        graded = grade_tests(tests, judge, losses)
        made.append(_store(settings, database, title, graded, config, losses))
    return made


def _read(folder: Folder, name: str, losses: Losses) -> _Configuration:
    root = folder.value(name)
    if not is_config(root):
        raise NotMapped(f"{name} is not a promptfoo configuration: it needs prompts, and tests or providers")
    for key in sorted(set(root) - _READ - _WITHOUT_EFFECT):
        losses.add(f"{str(key)[:60]} is not supported")
    prompts = read_prompts(root["prompts"], folder, losses)
    providers = read_providers(root.get("providers", root.get("targets")), folder, losses)
    tests = TestReader(folder, root, losses).read()
    if not tests:
        raise NotMapped(f"{name} has no tests that can be read")
    description = root.get("description")
    if not providers:
        losses.add("no provider is imported: start the runs with --models")
    title = storable_text(str(description or folder.root.resolve().name))[:1000]
    return _Configuration(title, prompts, providers, tests)


def _store(
    settings: Settings, database: Database, name: str, graded: Graded, config: _Configuration, losses: Losses
) -> ImportedEval:
    request = _eval_request(name, graded, losses)
    lines = "".join(json.dumps({"item": item}, ensure_ascii=True) + "\n" for item in graded.items).encode()
    plans = _plans(config, losses)
    identity = json.dumps([name, graded.criteria, plans], sort_keys=True).encode() + lines
    eval_id = f"eval_{hashlib.sha256(identity).hexdigest()[:26]}"
    with database.read() as session:
        exists = session.scalar(select(EvalRow).where(EvalRow.id == eval_id)) is not None
    if not exists:
        stored = Files(settings, database).store(ROWS_FILE, lines, "evals").id
        for plan in plans:
            plan["data_source"]["source"]["id"] = stored
        content = {
            "data_source_config": config_json(request), "testing_criteria": graded.criteria,
            "metadata": None, PLANNED: plans,
        }  # fmt: skip
        with database.write() as session:
            session.add(EvalRow(id=eval_id, name=name, content=content, digest=""))
    return ImportedEval(eval_id, name, len(graded.items), len(plans), not exists)


def _eval_request(name: str, graded: Graded, losses: Losses) -> EvalCreate:
    """The checked request; graders that the API refuses are removed and reported."""
    config = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
    for criterion in list(graded.criteria):
        try:
            EvalCreate.model_validate({"name": name, "data_source_config": config, "testing_criteria": [criterion]})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"][3:])
            losses.add(f"assertion {criterion['name']}: {place}: {first['msg']}")
            graded.criteria.remove(criterion)
    return EvalCreate.model_validate({"name": name, "data_source_config": config, "testing_criteria": graded.criteria})


def _plans(config: _Configuration, losses: Losses) -> list[dict[str, Any]]:
    """A run for each prompt and model, without its file."""
    plans: list[dict[str, Any]] = []
    for prompt in config.prompts:
        for provider in config.providers or [Provider("no-model", {})]:
            plan = _plan(prompt, provider)
            try:
                RunCreate.model_validate(plan)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"] if not str(part)[:1].isupper())
                losses.add(f"{prompt.name} with {provider.model}: {place}: {first['msg']}")
            else:
                plans.append(plan)
    return plans


def _plan(prompt: Prompt, provider: Provider) -> dict[str, Any]:
    source: dict[str, Any] = {
        "type": "completions",
        "model": provider.model,
        "source": {"type": "file_id", "id": ROWS_FILE},
        "input_messages": prompt.messages,
    }
    if provider.sampling:
        source["sampling_params"] = dict(provider.sampling)
    name = f"{provider.model}, {prompt.name}"[:1000]
    return {"name": name, "data_source": source, "metadata": {"prompt": prompt.name[:512]}}
