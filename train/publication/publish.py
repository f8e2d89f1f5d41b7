"""Publishes a finished run: its adapter, or merged weights, completely or not at all.

The folder appears by one rename, then the row is written. A kill in between leaves a folder without a row, never a row
without weights, and the next publication deletes it. A model is a candidate, served but not listed, until
`acceptance` has checked it.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.compatibility.folder_checks import check_folder, expand_user
from models.compatibility.lora_support import must_be_merged
from models.errors import Conflict, Invalid, NotFound
from models.files.atomic import publish_folder
from models.quantities import count_noun
from models.registry.registry import Registry, parse_spec
from models.settings.settings import Settings
from models.spec import BotProfile, EngineOptions, ModelSpec, Parity
from train.hyperparameters import UNITS
from train.publication.probes import PROBES, load_probes
from train.request import Kind, TrainingRequest
from train.run.folder import CONFIG, DATA, METRICS, RESULT, TrainingResult, load_finished, load_result, read_json
from train.run.progress import Progress, Stage, silent
from train.trainers.bases import Base, find_base, find_config, load_tokenizer, read_adapter_config, with_options

if TYPE_CHECKING:
    from train.publication.comparison import Compared, Reference


@dataclass(frozen=True)
class Publication:
    """The model that a run's result becomes.

    Args:
        name: its id, which must be free.
        kind: "adapter", or "merged". An adapter that no engine can load unmerged (rank over 64, DoRA, modules_to_save,
            lm_head, a base that vLLM serves without LoRA), or that was trained from an adapter, is merged in any case.
        job: the training job; by default the run's id.
        bot: the profile for /bot/<name>; by default none, and so a plain greeting.
        description: by default the number of examples.
    """

    name: str
    kind: Kind = "adapter"
    job: str | None = None
    bot: BotProfile | None = None
    description: str = ""


def publish(
    run_folder: Path, model: Publication, *, registry: Registry, settings: Settings, progress: Progress = silent
) -> TrainingResult:
    """Puts a run's result into the models' folder and registers it.

    Args:
        run_folder: a finished run. model: what it becomes.

    Returns:
        The run's result with `model`, `kind` and `model_folder`. The spec's `parity` compares the weights with float32
        base + adapter; below 98 % agreement the model stays a candidate.

    Raises:
        Conflict: the name is taken. Invalid: the run is not finished, or its base cannot be used. MergeRefused.
    """
    from train.publication.acceptance import list_compared
    from train.publication.cards import write_card

    name, kind = model.name, model.kind
    check_name(registry, name)
    registry.sweep_unclaimed(settings.models_dir)
    result, served = load_result(run_folder), _Served.of(run_folder)
    base_spec = _resolve(registry, result.base)
    rank = base_spec.engine.max_lora_rank if base_spec else EngineOptions().max_lora_rank
    if result.full:
        kind = "merged"  # full tuning gives whole weights, which need their own engine
    reason = None
    if not result.full:
        config = find_config(Base(result.base, result.base_location, base_spec))
        reason = must_be_merged(read_adapter_config(result.adapter), rank, config)
    reason = reason or _trained_from_adapter(result, registry) or _other_template(result, registry, served)
    if reason and kind == "adapter":
        progress(Stage(f"The adapter is merged: {reason}"))
        kind = "merged"
    base = _registered_base(result, registry, served, needed=kind == "adapter")
    parent = result.parent or (base.id if base else None)
    fields: dict[str, Any] = {
        "id": name,
        "kind": kind,
        "base": base.id if base else result.base,
        "parent": parent,
        "job": model.job or run_folder.name,
        "bot": model.bot,  # not the parent's, whose title and greeting describe another model
        "description": model.description
        or f"Trained on {count_noun(result.examples, UNITS[result.method].removesuffix('s'))}",
        "toy": base.toy if base else False,
        "fold_system": served.fold_system if served.fold_system != "none" or not base else base.fold_system,
    }
    if kind == "merged":  # its folder holds the template
        engine = base.engine if base else EngineOptions(trust_remote_code=served.trust_remote_code)
        fields["engine"] = engine.model_copy(update={"chat_template": None})
    if kind == "adapter":
        fields["lora_rank"] = result.hyperparameters["rank"]
    progress(Stage(f"Publishing {name} as {'merged weights' if kind == 'merged' else 'an adapter'}"))
    with publish_folder(settings.models_dir) as pending:
        below = served.base(result, base)
        reference, compared = _write_weights(result, below, kind, pending.path, progress)
        for file in (RESULT, METRICS, CONFIG, DATA):
            if (run_folder / file).exists():
                shutil.copy2(run_folder / file, pending.path / f"training-{file}")
        if (run_folder / PROBES).exists():
            shutil.copy2(run_folder / PROBES, pending.path / PROBES)
        spec = parse_spec(**fields, path=str(pending.final), state="candidate", parity=compared and compared.parity)
        write_card(pending.path, spec, registry)
    register_folder(registry, spec, pending.final)
    list_compared(spec, reference, compared, registry=registry, settings=settings, progress=progress)
    published = result.published(name, kind, pending.final)
    published.save()
    return published


def find_published(run_folder: Path, registry: Registry, request: TrainingRequest) -> TrainingResult | None:
    """The result of a run whose model is registered already: the process was killed between the two writes.

    None if the name is free or belongs to another run.
    """
    result = load_finished(run_folder)
    spec = _resolve(registry, str(request.name))
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
    finish_check(registry.resolve(str(request.name)), registry, settings, progress)
    return published


def finish_check(spec: ModelSpec, registry: Registry, settings: Settings, progress: Progress) -> None:
    """Completes the check of a candidate if a kill interrupted it."""
    parity = spec.parity
    if spec.state == "candidate" and parity and not (parity.refused or parity.served or parity.not_served):
        from train.publication.acceptance import check_model

        check_model(spec.id, registry=registry, settings=settings, progress=progress)


@dataclass(frozen=True)
class _Served:
    """Options of a run with which its model must be served."""

    chat_template: str | None
    trust_remote_code: bool
    fold_system: str

    @classmethod
    def of(cls, run_folder: Path) -> "_Served":
        """The options in the run's config.json; runs of earlier versions have none."""
        config = read_json(run_folder / CONFIG) if (run_folder / CONFIG).is_file() else {}
        request = config.get("asked") or {}
        template, trusted = request.get("chat_template"), request.get("trust_remote_code")
        return cls(template, bool(trusted), config.get("fold_system") or "none")

    def base(self, result: TrainingResult, spec: ModelSpec | None) -> Base:
        """The base that the run trained."""
        trusted = spec.engine.trust_remote_code if spec else False
        template = spec.engine.chat_template if spec else None
        base = Base(result.base, result.base_location, spec, trusted, template)
        return with_options(base, self.chat_template, self.trust_remote_code)


@dataclass(frozen=True)
class MergedModel:
    """A registered merge: its id, its folder and its measurements."""

    model: str
    folder: Path
    difference: float
    agreement: float
    parity: Parity


def publish_merge(
    adapter: str | ModelSpec,
    name: str,
    *,
    registry: Registry,
    settings: Settings,
    base: str | None = None,
    progress: Progress = silent,
) -> MergedModel:
    """Merges an adapter into its base and registers the weights as `name`.

    Args:
        adapter: a registered adapter; or one that is not registered, by its spec, or by its folder with `base`.
        base: the registered model that the adapter in the folder belongs to.

    Raises:
        Conflict: the name is taken. Invalid: `adapter` is not an adapter. NotFound. MergeRefused.
    """
    from train.publication.acceptance import list_compared
    from train.publication.cards import write_card
    from train.publication.comparison import Reference, with_trained_template
    from train.publication.merge import merge

    check_name(registry, name)
    registered = isinstance(adapter, str) and base is None
    spec = adapter if isinstance(adapter, ModelSpec) else _unmerged(adapter, name, base, registry)
    if spec.kind != "adapter" or spec.base is None:
        raise Invalid(f"{spec.id!r} is of kind {spec.kind}: only an adapter can be merged.", param="adapter")
    registry.sweep_unclaimed(settings.models_dir)
    folder = Path(str(spec.path))
    below = with_trained_template(find_base(spec.base, registry), folder)
    with publish_folder(settings.models_dir) as pending:
        report = merge(below, folder, pending.path, load_probes(folder))
        for file in (*folder.glob("training-*"), folder / PROBES):
            if file.is_file() and not file.is_symlink():  # a stranger's folder could hold anything
                shutil.copy2(file, pending.path / file.name)
        merged = parse_spec(
            id=name, kind="merged", path=str(pending.final), base=spec.base,
            parent=spec.id if registered else spec.base, job=spec.job, bot=spec.bot,
            engine=(below.spec.engine if below.spec else spec.engine).model_copy(update={"chat_template": None}),
            description=spec.description, toy=spec.toy, judge=spec.judge, state="candidate", parity=report.parity,
            fold_system=spec.fold_system, fallbacks=() if registered else spec.fallbacks,
        )  # fmt: skip
        write_card(pending.path, merged, registry)
    register_folder(registry, merged, pending.final)
    reference = Reference(below, folder)
    parity = (
        list_compared(merged, reference, report.compared, registry=registry, settings=settings, progress=progress)
        or report.parity
    )
    return MergedModel(name, pending.final, report.difference, parity.agreement, parity)


def _unmerged(adapter: str, name: str, base: str | None, registry: Registry) -> ModelSpec:
    """The spec of a registered adapter, or of the one in a folder."""
    if base is None:
        return registry.resolve(adapter)
    location, below = expand_user(adapter).absolute(), registry.resolve(base)
    read_adapter_config(location)  # raises Invalid where there is no adapter
    check_folder(location, "adapter")
    return parse_spec(id=name, kind="adapter", path=str(location), base=below.id, fold_system=below.fold_system)


def check_name(registry: Registry, name: str) -> None:
    """Raises Conflict if `name` is taken, Invalid if it is not a valid id; called before a training."""
    registry.check_free(name)


def _trained_from_adapter(result: TrainingResult, registry: Registry) -> str | None:
    spec = _resolve(registry, result.parent) if result.parent else None
    return f"it was trained from the adapter {spec.id}" if spec and spec.kind == "adapter" else None


def _other_template(result: TrainingResult, registry: Registry, served: "_Served") -> str | None:
    """Why an adapter must be merged because of its chat template, as a clause: an engine has only one; else None."""
    base = _registered_base(result, registry, served, needed=False) or _at_same_place(result, registry)
    if served.chat_template is None or base is None:
        return None
    if load_tokenizer(find_base(base.id, registry)).chat_template == served.chat_template:
        return None
    return f"it was trained with a chat template other than that of {base.id}"


def _at_same_place(result: TrainingResult, registry: Registry) -> ModelSpec | None:
    return next((spec for spec in registry.list() if spec.path == result.base_location), None)


def _registered_base(
    result: TrainingResult, registry: Registry, served: "_Served", *, needed: bool
) -> ModelSpec | None:
    """The base's spec; if an adapter needs it and it is not registered yet (a hub id, a folder), it is registered."""
    spec = _resolve(registry, result.base)
    if spec is not None or not needed:
        return spec
    if known := _at_same_place(result, registry):
        return known
    engine = EngineOptions(chat_template=served.chat_template, trust_remote_code=served.trust_remote_code)
    spec = parse_spec(
        id=result.base, kind="base", path=result.base_location, description="Registered by a training", engine=engine
    )
    try:
        registry.register(spec)
    except Conflict:  # another training from this base registered it first
        return registry.resolve(result.base)
    return spec


def _resolve(registry: Registry, name: str) -> ModelSpec | None:
    try:
        return registry.resolve(name)
    except NotFound:
        return None


def _write_weights(
    result: TrainingResult, below: Base, kind: Kind, folder: Path, progress: Progress
) -> "tuple[Reference, Compared | None]":
    """Writes the weights into the folder, and compares them with the reference.

    The comparison is None if memory is short: it can be made later, and a long training must not be lost.
    """
    from train.publication.comparison import NotEnoughMemory, Reference, compare, write_template
    from train.publication.merge import merge
    from train.publication.stop_tokens import write_stop_tokens

    probes = load_probes(result.run_folder)
    if kind == "merged" and not result.full:
        return Reference(below, result.adapter), merge(below, result.adapter, folder, probes).compared
    shutil.copytree(result.adapter, folder, dirs_exist_ok=True)
    write_stop_tokens(folder, below)
    if result.full:
        reference = Reference(replace(below, location=str(result.adapter)), None, "the tuned weights in float32")
        published = Reference(replace(below, location=str(folder)), None)
    else:
        write_template(below, folder)
        reference, published = Reference(below, result.adapter), Reference(below, folder)
    try:
        return reference, compare(reference, published, probes)
    except NotEnoughMemory as error:
        progress(Stage(str(error)))
        return reference, None


def register_folder(registry: Registry, spec: ModelSpec, folder: Path) -> None:
    """Registers, or deletes the folder if that fails: two trainings may race for the same name."""
    try:
        registry.register(spec)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
