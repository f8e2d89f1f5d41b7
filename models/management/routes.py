"""The HTTP handlers of the management routes. The registry, the keys and the jobs do the work."""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from models import audit, keys
from models.database import Database, utcnow
from models.http.bodies import read_body
from models.http.operations import attach_operations
from models.http.payloads import json_response, list_page, query_integer, run_in_thread
from models.jobs import jobs
from models.management.operations import MAX_LISTED, OPERATIONS, AliasSet, KeyChange, KeyCreate
from models.registry.registry import Registry

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

_LIMITS = tuple(vars(keys.NO_LIMITS))


def management_routes(database: Database) -> "list[Route]":
    """The routes of aliases, keys, jobs and the audit log."""
    from starlette.routing import Route

    aliases, key_routes, job_routes = _AliasRoutes(database), _KeyRoutes(database), _JobRoutes(database)
    root, key, job = "/v1/parley", "/v1/parley/keys/{key}", "/v1/parley/jobs/{job_id}"
    routes = [
        Route(f"{root}/aliases", aliases.all, methods=["GET"]),
        Route(f"{root}/aliases", aliases.point, methods=["POST"]),
        Route(f"{root}/aliases/{{alias:path}}", aliases.remove, methods=["DELETE"]),
        Route(f"{root}/keys", key_routes.all, methods=["GET"]),
        Route(f"{root}/keys", key_routes.create, methods=["POST"]),
        Route(key, key_routes.show, methods=["GET"]),
        Route(key, key_routes.change, methods=["POST"]),
        Route(f"{key}/revoke", key_routes.revoke, methods=["POST"]),
        Route(f"{root}/jobs", job_routes.all, methods=["GET"]),
        Route(job, job_routes.show, methods=["GET"]),
        Route(f"{job}/cancel", job_routes.cancel, methods=["POST"]),
        Route(f"{root}/audit", _AuditRoutes(database).all, methods=["GET"]),
    ]
    return attach_operations(routes, OPERATIONS)


class _AliasRoutes:
    def __init__(self, database: Database) -> None:
        self._registry = Registry(database)

    async def all(self, request: "Request") -> "Response":
        return json_response(list_page(await run_in_thread(self._entries), has_more=False))

    async def point(self, request: "Request") -> "Response":
        body = await read_body(request, AliasSet)
        if isinstance(body.to, str):
            await run_in_thread(self._registry.alias, body.name, body.to)
        else:
            await run_in_thread(self._registry.split_alias, body.name, body.to)
        entries = await run_in_thread(self._entries)
        return json_response(next(entry for entry in entries if entry["name"] == body.name))

    async def remove(self, request: "Request") -> "Response":
        alias = request.path_params["alias"]
        await run_in_thread(self._registry.unalias, alias)
        return json_response({"id": alias, "deleted": True})

    def _entries(self) -> list[dict[str, Any]]:
        weights = self._registry.alias_weights()
        return [
            {"id": name, "name": name, "target": target, "weights": weights.get(name)}
            for name, target in self._registry.aliases().items()
        ]


class _KeyRoutes:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, request: "Request") -> "Response":
        all_keys = await run_in_thread(keys.list_keys, self._database)
        return json_response(list_page([key.to_json(utcnow()) for key in all_keys], has_more=False))

    async def create(self, request: "Request") -> "Response":
        body = await read_body(request, KeyCreate)
        secret = await run_in_thread(
            keys.create_key,
            self._database,
            name=body.name,
            role=body.role,
            expires=_expiry(body.expires),
            models=body.models,
            limits=keys.KeyLimits(*(getattr(body, name) for name in _LIMITS)),
        )
        created = await run_in_thread(keys.find_key, self._database, body.name)
        return json_response(created.to_json(utcnow()) | {"secret": secret})

    async def show(self, request: "Request") -> "Response":
        return json_response((await self._find(request)).to_json(utcnow()))

    async def change(self, request: "Request") -> "Response":
        body, key = await read_body(request, KeyChange), await self._find(request)
        given = body.model_fields_set
        changed = await run_in_thread(
            keys.change_key,
            self._database,
            key.id,
            models=body.models if "models" in given else key.models,
            limits=replace(key.limits, **{name: getattr(body, name) for name in _LIMITS if name in given}),
            expires=_expiry(body.expires) if "expires" in given else key.expires,
        )
        return json_response(changed.to_json(utcnow()))

    async def revoke(self, request: "Request") -> "Response":
        key = await self._find(request)
        await run_in_thread(keys.revoke_key, self._database, key.id)
        return json_response((await run_in_thread(keys.find_key, self._database, key.id)).to_json(utcnow()))

    async def _find(self, request: "Request") -> keys.KeyInfo:
        return await run_in_thread(keys.find_key, self._database, request.path_params["key"])


class _JobRoutes:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, request: "Request") -> "Response":
        query = request.query_params
        limit = query_integer(query, "limit", 50, least=1, most=MAX_LISTED)
        newest = await run_in_thread(jobs.list_jobs, self._database, query.get("kind") or None, limit)
        return json_response(list_page([job_to_json(job) for job in newest], has_more=False))

    async def show(self, request: "Request") -> "Response":
        job = await run_in_thread(jobs.get_job, self._database, request.path_params["job_id"])
        return json_response(job_to_json(job))

    async def cancel(self, request: "Request") -> "Response":
        job = await run_in_thread(jobs.cancel, self._database, request.path_params["job_id"])
        return json_response(job_to_json(job))


class _AuditRoutes:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, request: "Request") -> "Response":
        query = request.query_params
        limit = query_integer(query, "limit", 100, least=1, most=MAX_LISTED)
        entries = await run_in_thread(
            audit.read_audit,
            self._database,
            limit=limit + 1,
            after=query.get("after") or None,
            target=query.get("target") or None,
        )
        page = [entry.to_json() for entry in entries[:limit]]
        return json_response(list_page(page, has_more=len(entries) > limit))


def _expiry(text: str | None) -> datetime | None:
    return keys.parse_expiry(text, utcnow()) if text else None


def job_to_json(job: jobs.Job) -> dict[str, Any]:
    """A job as the routes return it."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in vars(job).items()}
