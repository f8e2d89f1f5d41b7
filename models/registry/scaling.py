"""Changes the number of a model's engines while it is served."""

from models.audit import record_change
from models.errors import Invalid
from models.registry.registry import Registry, bump_revision, parse_spec
from models.spec import ModelSpec
from models.tables import ModelRow


def scale_model(
    registry: Registry, name: str, replicas: int, max_replicas: int | None = None, target_running: int | None = None
) -> ModelSpec:
    """Sets how many engines serve a model, or with `max_replicas` the bounds of that number; returns the model.

    Args:
        target_running: requests that each replica should run at once; None: unchanged.

    Raises:
        NotFound: no model has that name. Invalid: it has no engine of its own, or a number is not valid.
    """
    spec = registry.resolve(name)
    if spec.kind == "hosted":
        raise Invalid(f"{spec.id!r} is hosted and has no engine here to scale.", param="model")
    if spec.kind == "adapter":
        raise Invalid(f"{spec.id!r} runs on the engines of {spec.base!r}: scale that model.", param="model")
    with registry.database.write() as session:
        bump_revision(session)
        row = session.get_one(ModelRow, spec.id)
        engine = row.spec["engine"] | {"replicas": replicas, "max_replicas": max_replicas}
        if target_running is not None:
            engine["target_running"] = target_running
        scaled = parse_spec(**row.spec | {"engine": engine})
        row.spec = scaled.model_dump(mode="json")
        record_change(session, "model.scale", spec.id, replicas=replicas, max_replicas=max_replicas)
    return scaled
