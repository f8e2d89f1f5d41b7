"""`/v1/models`: the snapshot's models in OpenAI's shape, retrieved, listed and deleted."""

from typing import Any
from urllib.parse import urlsplit

from models.errors import Conflict
from models.keys import KeyInfo
from models.registry.registry import Registry
from serve.gateway import authorization
from serve.gateway.snapshot import Route, Snapshot


def list_models(snapshot: Snapshot, key: KeyInfo | None = None) -> dict[str, Any]:
    """Every listed model, then every alias of one, limited to those that the key may use."""
    listed = {spec.id for spec in snapshot.listed}
    names = [spec.id for spec in snapshot.listed]
    names += [name for name, target in snapshot.aliases.items() if target in listed]
    routes = snapshot.routes
    data = [_describe(name, routes[name]) for name in names if authorization.may_use_model(key, name, routes[name])]
    return {"object": "list", "data": data}


def retrieve_model(snapshot: Snapshot, name: str, key: KeyInfo | None = None) -> dict[str, Any]:
    """One model by id or alias, candidates included.

    Raises:
        NotFound: no model has that name, or the key may not use it.
    """
    route = snapshot.find_route(name)
    if route is None:
        raise authorization.model_not_found(name)
    authorization.check_model_access(key, name, route)
    return _describe(name, route)


def delete_model(registry: Registry, snapshot: Snapshot, name: str) -> dict[str, Any]:
    """Deletes a name: an alias is removed and its model stays; a model is retired and its weights and votes stay.

    Raises:
        NotFound: no model has that name. Conflict: an alias or an adapter depends on the model, or the name is one of
        the setting `fine_tuning_models`.
    """
    if name in snapshot.mapped_names:
        raise Conflict(f"{name!r} is a name of the setting fine_tuning_models: remove it there.", param="model")
    if name in registry.aliases():
        registry.unalias(name)
    else:
        registry.retire(registry.resolve(name).id)
    return {"id": name, "object": "model", "deleted": True}


def _describe(name: str, route: Route) -> dict[str, Any]:
    """A model in OpenAI's format, with fields that other servers add, and Parley's own under `parley`.

    `max_model_len` is vLLM's name for the context length, `context_length` that of other servers. `root` is the model
    of an alias, or the base of an adapter.
    """
    spec = route.spec
    owner = urlsplit(spec.upstream.base_url).hostname if spec.upstream else "parley"
    described: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": int(spec.created.timestamp()),
        "owned_by": owner or "parley",
    }
    adapted = spec.base if spec.kind == "adapter" else None
    described["root"] = adapted or spec.id
    described["parent"] = spec.parent or adapted
    known = route.capabilities
    # A hosted model's context length is known only if the operator has set it.
    length = known.context_length if known is not None else spec.engine.max_model_len
    if length is not None:
        described["max_model_len"] = described["context_length"] = length
    if known is not None:
        described["capabilities"] = known.to_json()
    if spec.shutdown_date:
        described["shutdown_date"] = spec.shutdown_date.isoformat()
    own: dict[str, Any] = {"kind": spec.kind, "state": route.state.state, "base": spec.base}
    if name != spec.id:
        own["alias_of"] = spec.id
    if route.split is not None:
        own["shares"] = route.split.shares
    return described | {"parley": own}
