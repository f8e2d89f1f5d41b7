"""This room's routes: owners register, import, export, load, pin and retire models over HTTP; and `/v1/batches`.

They call the same functions as `parley models`. Work that needs torch is a job of the worker. Light to import.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.chat_templates import read_template
from models.database import Database
from models.errors import Invalid, NotFound
from models.http.bodies import read_body
from models.http.operations import attach_operations
from models.http.payloads import json_response, list_page, run_in_thread
from models.jobs.jobs import enqueue, get_job
from models.management.routes import job_to_json
from models.registry.fallbacks import set_fallbacks
from models.registry.new_model import NewModel
from models.registry.registry import Registry
from models.registry.scaling import scale_model
from models.settings.settings import Settings
from models.spec import ModelSpec
from serve.api_operations import (
    OPERATIONS,
    ModelAdd,
    ModelExport,
    ModelFallbacks,
    ModelImport,
    ModelMerge,
    ModelScale,
)
from serve.batches.endpoints import batch_routes
from serve.fleet import engine_states

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

_Handler = Callable[["Request"], Awaitable["Response"]]
_MODELS = "/v1/parley/models"


def routes(settings: Settings, database: Database) -> "list[Route]":
    """The routes of `serve`."""
    from starlette.routing import Route

    api = _ModelRoutes(database)
    model = f"{_MODELS}/{{model:path}}"
    model_routes = [
        Route(_MODELS, api.all, methods=["GET"]),
        Route(_MODELS, api.add, methods=["POST"]),
        Route(f"{_MODELS}/import", api.start_import, methods=["POST"]),
        Route(f"{model}/merge", api.start_merge, methods=["POST"]),
        Route(f"{model}/export", api.start_export, methods=["POST"]),
        *(Route(f"{model}/{name}", handler, methods=["POST"]) for name, handler in api.changes().items()),
        Route(model, api.show, methods=["GET"]),
    ]
    return attach_operations(model_routes, OPERATIONS) + batch_routes(settings, database)


class _ModelRoutes:
    """`/v1/parley/models`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._registry = Registry(database)

    async def all(self, request: "Request") -> "Response":
        retired = request.query_params.get("all") == "true"
        return json_response(list_page(await run_in_thread(self._entries, retired), has_more=False))

    async def add(self, request: "Request") -> "Response":
        new = _new_model(await read_body(request, ModelAdd))

        def register() -> dict[str, Any]:
            return self._entry(new.register(self._registry).id)

        return json_response(await run_in_thread(register))

    async def start_import(self, request: "Request") -> "Response":
        body = await read_body(request, ModelImport)
        new = _new_model(body)

        def start() -> dict[str, Any]:
            self._registry.check_free(new.name)
            if body.merge:
                spec = replace(new, pin=False).complete(self._registry)
                if spec.kind != "adapter":
                    raise Invalid(
                        f"Only an adapter can be merged, and {new.path} is of kind {spec.kind}.", param="merge"
                    )
            elif not new.is_gguf:
                raise Invalid(
                    f"There is nothing to import in {new.path}: give a GGUF file, or an adapter and `merge`. Register "
                    f"other models with POST {_MODELS}.",
                    param="path",
                )
            return self._start("import-model", vars(new) | {"merge": body.merge})

        return json_response(await run_in_thread(start))

    async def start_merge(self, request: "Request") -> "Response":
        body, model = await read_body(request, ModelMerge), request.path_params["model"]

        def start() -> dict[str, Any]:
            spec = self._registry.resolve(model)
            if spec.kind != "adapter":
                raise Invalid(f"{spec.id!r} is of kind {spec.kind}: only an adapter can be merged.", param="model")
            self._registry.check_free(body.name)
            return self._start("merge-model", {"adapter": spec.id, "name": body.name})

        return json_response(await run_in_thread(start))

    async def start_export(self, request: "Request") -> "Response":
        body, model = await read_body(request, ModelExport), request.path_params["model"]

        def start() -> dict[str, Any]:
            spec = self._registry.resolve(model)
            if spec.kind == "adapter" or spec.folder is None:
                raise Invalid(
                    f"{spec.id!r} has no whole weights on this machine: merge an adapter and export the result.",
                    param="model",
                )
            file = body.file or f"{re.sub(r'[^A-Za-z0-9._-]+', '-', spec.id)}.{body.type}.gguf"
            return self._start("export-model", {"model": spec.id, "type": body.type, "file": file})

        return json_response(await run_in_thread(start))

    def _start(self, kind: str, params: dict[str, Any]) -> dict[str, Any]:
        """Enqueues a job of the worker, and returns it."""
        return job_to_json(get_job(self._database, enqueue(self._database, kind, params)))

    async def show(self, request: "Request") -> "Response":
        return json_response(await run_in_thread(self._entry, request.path_params["model"]))

    def changes(self) -> dict[str, _Handler]:
        """The handlers that change one model, by the last segment of their path."""
        return {
            "load": self._changing(lambda name: engine_states.load_model(self._database, name)),
            "unload": self._changing(lambda name: engine_states.unload_model(self._database, name)),
            "pin": self._changing(self._registry.pin),
            "unpin": self._changing(self._registry.unpin),
            "retire": self._changing(self._retire),
            "scale": self._scale,
            "fallbacks": self._set_fallbacks,
        }

    async def _scale(self, request: "Request") -> "Response":
        body = await read_body(request, ModelScale)
        name = request.path_params["model"]

        def scale() -> dict[str, Any]:
            scaled = scale_model(self._registry, name, body.replicas, body.max_replicas, body.target_running)
            return self._entry(scaled.id)

        return json_response(await run_in_thread(scale))

    async def _set_fallbacks(self, request: "Request") -> "Response":
        body = await read_body(request, ModelFallbacks)
        name = request.path_params["model"]

        def change() -> dict[str, Any]:
            return self._entry(set_fallbacks(self._registry, name, body.fallbacks).id)

        return json_response(await run_in_thread(change))

    def _retire(self, name: str) -> ModelSpec:
        spec = self._registry.resolve(name)
        self._registry.retire(spec.id)
        return spec

    def _changing(self, change: Callable[[str], ModelSpec]) -> _Handler:
        """A handler that changes a model and responds with its new entry."""

        async def handler(request: "Request") -> "Response":
            spec = await run_in_thread(change, request.path_params["model"])
            return json_response(await run_in_thread(self._entry, spec.id))

        return handler

    def _entry(self, name: str) -> dict[str, Any]:
        model_id = self._registry.aliases().get(name, name)
        for entry in self._entries(retired=True):
            if entry["id"] == model_id:
                return entry
        raise NotFound(f"There is no model {name!r}.", code="model_not_found", param="model")

    def _entries(self, retired: bool) -> list[dict[str, Any]]:
        specs = self._registry.list(include_candidates=True, include_retired=retired)
        rows = engine_states.read_statuses(self._database)
        states, replicas = engine_states.combine_states(specs, rows), engine_states.replicas_of(rows)
        pinned, aliases, weights = self._registry.pinned(), self._registry.aliases(), self._registry.alias_weights()
        return [
            {
                "id": spec.id, "kind": spec.kind, "registered": spec.state,
                "state": "retired" if spec.state == "retired" else states[spec.id].state,
                "message": states[spec.id].message, "base": spec.base, "path": spec.path,
                "aliases": [
                    name for name, target in aliases.items() if target == spec.id or spec.id in weights.get(name, ())
                ],
                "fallbacks": list(spec.fallbacks),
                "pinned": spec.id in pinned, "engine": spec.engine.model_dump(mode="json", exclude_defaults=True),
                "ready_replicas": sum(row.state == "ready" for row in replicas.get(spec.id, ())),
                "created": spec.created.isoformat(),
            }
            for spec in specs
        ]  # fmt: skip


def _new_model(body: ModelAdd) -> NewModel:
    values = {name: value for name, value in body if name not in ("engine", "fallbacks", "merge")}
    engine = body.engine.model_dump()
    if body.engine.chat_template is not None:
        engine["chat_template"] = read_template(body.engine.chat_template)
    return NewModel(**values, fallbacks=tuple(body.fallbacks), engine=engine)
