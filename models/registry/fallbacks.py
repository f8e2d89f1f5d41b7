"""Changes a model's fallbacks while it is served."""

from collections.abc import Sequence

from models.audit import record_change
from models.registry.registry import Registry, bump_revision, check_fallbacks, parse_spec
from models.spec import ModelSpec
from models.tables import ModelRow


def set_fallbacks(registry: Registry, name: str, fallbacks: Sequence[str]) -> ModelSpec:
    """Sets the models that answer while this one is down or starting, in their order; returns the model.

    Two models may be each other's fallback: only the requested model's own fallbacks are tried.

    Raises:
        NotFound: no model has that name. Invalid: a fallback is not registered, an alias, the model itself, or twice.
    """
    spec = registry.resolve(name)
    with registry.database.write() as session:
        bump_revision(session)
        row = session.get_one(ModelRow, spec.id)
        changed = parse_spec(**row.spec | {"fallbacks": list(fallbacks)})
        check_fallbacks(session, changed)
        row.spec = changed.model_dump(mode="json")
        record_change(session, "model.fallbacks", spec.id, fallbacks=list(fallbacks))
    return changed
