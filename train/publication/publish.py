"""Publishes a finished run: its adapter, or the weights merged with it, whole in the registry or not at all.

The folder appears by one rename, then the row is written; a death in between leaves a folder that nothing names,
never a name without its weights, and the next publication sweeps it away. A model is a candidate, served and not
listed, until `listing` has seen it pass. What is measured is `comparing`'s and `merging`'s.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.atomic import publish_folder
from models.errors import Conflict, Invalid, NotFound
from models.registry import Registry, parse_spec
from models.settings import Settings
from models.spec import BotProfile, EngineOptions, ModelSpec, Parity
from train.publication.probes import PROBES, kept
from train.request import Kind, TrainingRequest
from train.run.folder import CONFIG, DATA, METRICS, RESULT
from train.run.progress import Progress, Stage, silent
from train.run.result import TrainingResult, load_finished, load_result
from train.trainers.bases import Base, adapter_facts, find_base

if TYPE_CHECKING:
    from train.publication.comparison import Compared, Reference


def publish(
    run_folder: Path,
    name: str,
    *,
    registry: Registry,
    settings: Settings,
    kind: Kind = "adapter",
    job: str | None = None,
    bot: BotProfile | None = None,
    description: str = "",
    progress: Progress = silent,
) -> TrainingResult:
    """Puts a run's result into the models' folder and registers it as `name`.

    Args:
        run_folder: a finished run. name: the new model's id, which must be free.
        kind: "adapter", or "merged". An adapter that no engine can hold as it is (rank over 64, DoRA, modules_to_save,
            lm_head), or that hangs on what was itself an adapter, is merged in any case.
        job: the training job that made it; the run's own id without it.
        bot: how it introduces itself at /bot/<name>; its parent's profile without it.

    Returns:
        The run's result, now with `model`, `kind` and `model_folder`. The registry's spec says in `parity` how the
        weights compare with float32 base + adapter; under 98 % agreement it stays a candidate.

    Raises:
        Conflict: the name is taken. Invalid: no finished run, or a base that cannot carry it. MergeRefused.
    """
    from train.publication.cards import write_card
    from train.publication.listing import list_compared

    check_name(registry, name)
    registry.sweep_unclaimed(settings.models_dir)
    result = load_result(run_folder)
    below = _find(registry, result.base)
    rank = below.engine.max_lora_rank if below else EngineOptions().max_lora_rank
    if result.full:
        kind = "merged"  # every weight was tuned: there is no adapter to share an engine
    reason = None if result.full else must_be_merged(adapter_facts(result.adapter), rank)
    reason = reason or _hangs_on_adapter(result, registry)
    if reason and kind == "adapter":
        progress(Stage(f"The adapter is merged: {reason}"))
        kind = "merged"
    base = _registered_base(result, registry, needed=kind == "adapter")
    above = _find(registry, result.parent) if result.parent else base
    parent = result.parent or (base.id if base else None)
    fields: dict[str, Any] = {
        "id": name,
        "kind": kind,
        "base": base.id if base else result.base,
        "parent": parent,
        "job": job or run_folder.name,
        "bot": bot or (above.bot if above else None),
        "description": description or f"Trained on {result.examples:,} conversations",
        "toy": base.toy if base else False,
    }
    if kind == "merged" and base:
        fields["engine"] = base.engine
    if kind == "adapter":
        fields["lora_rank"] = result.hyperparameters["rank"]
    progress(Stage(f"Publishing {name} as {'merged weights' if kind == 'merged' else 'an adapter'}"))
    with publish_folder(settings.models_dir) as pending:
        reference, compared = _fill(result, base, kind, pending.path, progress)
        for file in (RESULT, METRICS, CONFIG, DATA):
            if (run_folder / file).exists():
                shutil.copy2(run_folder / file, pending.path / f"training-{file}")
        if (run_folder / PROBES).exists():
            shutil.copy2(run_folder / PROBES, pending.path / PROBES)
        spec = parse_spec(**fields, path=str(pending.final), state="candidate", parity=compared and compared.parity)
        write_card(pending.path, spec, registry)
    _register(registry, spec, pending.final)
    list_compared(spec, reference, compared, registry=registry, settings=settings, progress=progress)
    published = result.published(name, kind, pending.final)
    published.save()
    return published


def find_published(run_folder: Path, registry: Registry, request: TrainingRequest) -> TrainingResult | None:
    """The result of a run whose model is registered already: the process was killed between the two writes.

    None if the name is free or belongs to another run.
    """
    result = load_finished(run_folder)
    spec = _find(registry, str(request.name))
    if result is None or spec is None or spec.job != (request.job or run_folder.name) or not spec.path:
        return None
    published = result.published(spec.id, spec.kind, Path(spec.path))
    published.save()
    return published


def finish_publication(
    run_folder: Path, registry: Registry, settings: Settings, request: TrainingRequest, progress: Progress
) -> TrainingResult | None:
    """As `find_published`; the check of a candidate that a kill interrupted is completed."""
    published = find_published(run_folder, registry, request)
    if published is None:
        return None
    spec = registry.resolve(str(request.name))
    parity = spec.parity
    if spec.state == "candidate" and parity and not (parity.refused or parity.served or parity.not_served):
        from train.publication.listing import check_model

        check_model(spec.id, registry=registry, settings=settings, progress=progress)
    return published


@dataclass(frozen=True)
class MergedModel:
    """A registered model that was made by merging: its id, its folder and what was measured."""

    model: str
    folder: Path
    difference: float
    agreement: float
    parity: Parity


def publish_merge(
    adapter: str, name: str, *, registry: Registry, settings: Settings, progress: Progress = silent
) -> MergedModel:
    """Merges a registered adapter into its base and registers the weights as `name`.

    Raises:
        Conflict: the name is taken. Invalid: `adapter` is no adapter. NotFound. MergeRefused.
    """
    from train.publication.cards import write_card
    from train.publication.comparison import Reference
    from train.publication.listing import list_compared
    from train.publication.merge import merge

    check_name(registry, name)
    spec = registry.resolve(adapter)
    if spec.kind != "adapter" or spec.base is None:
        raise Invalid(f"{adapter!r} is of kind {spec.kind}: only an adapter can be merged.", param="adapter")
    registry.sweep_unclaimed(settings.models_dir)
    below, folder = find_base(spec.base, registry), Path(str(spec.path))
    with publish_folder(settings.models_dir) as pending:
        report = merge(below, folder, pending.path, kept(folder))
        for file in (*folder.glob("training-*"), folder / PROBES):
            if file.exists():
                shutil.copy2(file, pending.path / file.name)
        merged = parse_spec(
            id=name, kind="merged", path=str(pending.final), base=spec.base, parent=spec.id, job=spec.job, bot=spec.bot,
            engine=below.spec.engine if below.spec else spec.engine, description=spec.description, toy=spec.toy,
            judge=spec.judge, state="candidate", parity=report.parity,
        )  # fmt: skip
        write_card(pending.path, merged, registry)
    _register(registry, merged, pending.final)
    reference = Reference(below, folder)
    parity = (
        list_compared(merged, reference, report.compared, registry=registry, settings=settings, progress=progress)
        or report.parity
    )
    return MergedModel(name, pending.final, report.difference, parity.agreement, parity)


def check_name(registry: Registry, name: str) -> None:
    """Raises Conflict where `name` is taken, Invalid where it can be no id: before the training, not after it."""
    parse_spec(id=name, kind="base", path="/")
    ids = {spec.id for spec in registry.list(include_candidates=True, include_retired=True)}
    if name in ids or name in registry.aliases():
        raise Conflict(f"The name {name!r} is taken: a version is never replaced. Choose another name.", param="name")


def must_be_merged(adapter: dict[str, Any], largest_rank: int = 64) -> str | None:
    """Why an engine cannot hold an adapter as it is; None where it can.

    Args:
        adapter: its adapter_config.json. largest_rank: what its base's engine is started with.
    """
    rank = max([adapter.get("r", 0), *(adapter.get("rank_pattern") or {}).values()])
    if rank > largest_rank:
        return f"its rank {rank} is over the {largest_rank} that its base's engine is started with"
    if adapter.get("use_dora"):
        return "it is a DoRA adapter, which vLLM's engines cannot hold"
    if adapter.get("modules_to_save"):
        return f"it trains whole modules ({', '.join(adapter['modules_to_save'])})"
    targets = adapter.get("target_modules") or []
    heads = [
        name for name in targets if isinstance(name, str) and name.rsplit(".", 1)[-1] in ("lm_head", "embed_tokens")
    ]
    return f"it changes {', '.join(heads)}" if heads else None


def _hangs_on_adapter(result: TrainingResult, registry: Registry) -> str | None:
    spec = _find(registry, result.parent) if result.parent else None
    return f"it was trained from the adapter {spec.id}" if spec and spec.kind == "adapter" else None


def _registered_base(result: TrainingResult, registry: Registry, *, needed: bool) -> ModelSpec | None:
    """The base's spec; where an adapter needs it and it is not registered yet (a hub id, a folder), it is now."""
    spec = _find(registry, result.base)
    if spec is not None or not needed:
        return spec
    known = [other for other in registry.list() if other.path == result.base_location]
    if known:
        return known[0]
    spec = parse_spec(id=result.base, kind="base", path=result.base_location, description="Registered by a training")
    try:
        registry.register(spec)
    except Conflict:  # another training from this base was a moment faster
        return registry.resolve(result.base)
    return spec


def _find(registry: Registry, name: str) -> ModelSpec | None:
    try:
        return registry.resolve(name)
    except NotFound:
        return None


def _fill(
    result: TrainingResult, base: ModelSpec | None, kind: Kind, folder: Path, progress: Progress
) -> "tuple[Reference, Compared | None]":
    """Puts the weights into the folder; says how they compare, and with what.

    None where memory is short: what was trained for hours is not lost over a comparison that can be made later.
    """
    from train.publication.comparison import NoRoom, Reference, compare, write_template
    from train.publication.merge import merge

    remote_code = base.engine.trust_remote_code if base else False
    below = Base(result.base, result.base_location, base, remote_code)
    probes = kept(result.run_folder)
    if kind == "merged" and not result.full:
        return Reference(below, result.adapter), merge(below, result.adapter, folder, probes).compared
    shutil.copytree(result.adapter, folder, dirs_exist_ok=True)
    if result.full:
        reference = Reference(replace(below, location=str(result.adapter)), None, "the tuned weights in float32")
        published = Reference(replace(below, location=str(folder)), None)
    else:
        write_template(below, folder)
        reference, published = Reference(below, result.adapter), Reference(below, folder)
    try:
        return reference, compare(reference, published, probes)
    except NoRoom as error:
        progress(Stage(str(error)))
        return reference, None


def _register(registry: Registry, spec: ModelSpec, folder: Path) -> None:
    """Registers, or takes the folder away again: two trainings may have raced for one name."""
    try:
        registry.register(spec)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
