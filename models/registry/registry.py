"""The registry: the models, their aliases, and whether they are served and listed.

Every change is one transaction that raises the revision number, which the gateway and the supervisor watch. Folders of
weights are published (`models.files.atomic`) before they are registered.
"""

import logging
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from models.audit import record_change
from models.compatibility.engine_options import check_engine_options
from models.compatibility.lora_support import misfit, must_be_merged
from models.database import Database
from models.errors import Conflict, Invalid, NotFound
from models.files.atomic import ABANDONED_S, claim_folder, sweep, unclaimed_folders
from models.json_files import read_json
from models.spec import NAME_RULE, BotProfile, ModelSpec, Parity, State, is_recorded_name, is_valid_name
from models.tables import AliasRow, ModelRow, RevisionRow
from models.weights import check_weights, read_adapter_config, tensor_names, tensor_shapes

_MAX_WEIGHT = 1e9
_log = logging.getLogger("parley.registry")


class Registry:
    """The models of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        """The registry's database."""
        return self._database

    def list(self, *, include_candidates: bool = False, include_retired: bool = False) -> list[ModelSpec]:
        """The listed models, oldest first; optionally also candidates and retired models."""
        states = ["listed", *["candidate"] * include_candidates, *["retired"] * include_retired]
        query = select(ModelRow).where(ModelRow.state.in_(states)).order_by(ModelRow.created, ModelRow.id)
        with self._database.read() as session:
            return [_spec(row) for row in session.scalars(query)]

    def resolve(self, name: str) -> ModelSpec:
        """The model with this id or alias, candidates included.

        Raises:
            NotFound: no model has that name, or it is retired.
        """
        with self._database.read() as session:
            alias = session.get(AliasRow, name)
            row = session.get(ModelRow, alias.target if alias else name)
            if row is None:
                known = ", ".join(session.scalars(select(ModelRow.id).where(ModelRow.state == "listed").limit(8)))
                hint = f"Registered models: {known}." if known else "No model is registered yet."
                raise NotFound(f"There is no model {name!r}. {hint}", code="model_not_found", param="model")
            if row.state == "retired":
                raise NotFound(f"The model {name!r} is retired.", code="model_not_found", param="model")
            return _spec(row)

    def register(self, spec: ModelSpec) -> ModelSpec:
        """Adds a model. Its weights must already exist, as safetensors.

        Raises:
            Conflict: a model or alias has that id; a model is never replaced.
            Invalid: the base is unknown or not a base, the folder has no safetensors, or the name means a recording.
        """
        _check_live(spec.id)
        if spec.path is not None:
            check_weights(spec.path)
            check_engine_options(spec)
        with self._change() as session:
            if session.get(ModelRow, spec.id) or session.get(AliasRow, spec.id):
                raise Conflict(f"The name {spec.id!r} is taken, and models are never replaced. Choose another name.")
            check_fallbacks(session, spec)
            if spec.kind == "adapter":
                _check_base(session, spec)
            row = ModelRow(
                id=spec.id,
                kind=spec.kind,
                state=spec.state,
                spec=spec.model_dump(mode="json"),
                created=spec.created,
            )
            session.add(row)
            upstream = spec.upstream.base_url if spec.upstream else None
            record_change(
                session, "model.add", spec.id, kind=spec.kind, path=spec.path, upstream=upstream, base=spec.base
            )
        if spec.folder is not None:
            claim_folder(spec.folder)
        return spec

    def check_free(self, name: str) -> None:
        """Checks the name of a new model before long work on its weights.

        Raises:
            Conflict: it is taken. Invalid: it is not a valid id.
        """
        parse_spec(id=name, kind="base", path="/")
        with self._database.read() as session:
            if session.get(ModelRow, name) or session.get(AliasRow, name):
                raise Conflict(
                    f"The name {name!r} is taken: a version is never replaced. Choose another name.", param="name"
                )

    def check_fallbacks(self, spec: ModelSpec) -> None:
        """Checks a model's fallbacks before long work on its weights. Raises Invalid: one is not registered."""
        with self._database.read() as session:
            check_fallbacks(session, spec)

    def set_parity(self, model_id: str, parity: Parity, state: State | None = None) -> None:
        """Stores the result of a parity check, and sets the model's state if `state` is given."""
        with self._change() as session:
            row = _row(session, model_id)
            row.spec = row.spec | {"parity": parity.model_dump(mode="json")}
            if state is not None:
                _set_state(session, row, state)

    def sweep_unclaimed(self, models_dir: Path, older_than_s: float = 60.0) -> tuple[Path, ...]:
        """Removes folders that a kill left half-written, or published but not registered; returns the latter.

        It considers only folders with the mark of an unfinished publication that have not changed for `older_than_s`
        seconds, and logs each removal.
        """
        sweep(models_dir, older_than_s=ABANDONED_S)
        unclaimed = unclaimed_folders(models_dir, older_than_s)
        if not unclaimed:
            return ()
        with self._database.read() as session:
            paths = [spec.get("path") for spec in session.scalars(select(ModelRow.spec))]
        named = {Path(path).resolve() for path in paths if path}
        removed = []
        for folder in unclaimed:
            if any(path.is_relative_to(folder.resolve()) for path in named):
                claim_folder(folder)
                continue
            _log.warning("removing %s: it was published but never registered", folder)
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        return tuple(removed)

    def set_bot(self, model_id: str, profile: BotProfile) -> None:
        """Stores how a model introduces itself on its own page."""
        with self._change() as session:
            row = _row(session, model_id)
            row.spec = row.spec | {"bot": profile.model_dump(mode="json")}
            record_change(session, "model.bot", model_id, title=profile.title)

    def set_state(self, model_id: str, state: State) -> None:
        """Sets a model's state: candidate, listed or retired."""
        with self._change() as session:
            _set_state(session, _row(session, model_id), state)

    def retire(self, model_id: str) -> None:
        """Stops serving and listing a model; its row, weights and votes stay.

        Raises:
            Conflict: an alias points to it, or adapters use its engine.
        """
        with self._change() as session:
            row = _row(session, model_id)
            names = [
                alias.name
                for alias in session.scalars(select(AliasRow).order_by(AliasRow.name))
                if model_id == alias.target or model_id in (alias.weights or ())
            ]
            if names:
                raise Conflict(
                    f"The alias {names[0]!r} points to {model_id!r}. Move it first: "
                    f"`parley models alias {names[0]} OTHER`."
                )
            served = session.scalars(select(ModelRow).where(ModelRow.kind == "adapter", ModelRow.state != "retired"))
            adapters = [other.id for other in served if other.spec["base"] == model_id]
            if adapters:
                raise Conflict(f"{', '.join(adapters)} runs on the engine of {model_id!r}: retire that first.")
            row.state = "retired"
            record_change(session, "model.retire", model_id)

    def pin(self, name: str) -> ModelSpec:
        """Keeps a model's engine in memory permanently; returns the model.

        Raises:
            NotFound: no model has that name. Invalid: the model has no engine of its own.
        """
        return self._set_pinned(name, True)

    def unpin(self, name: str) -> ModelSpec:
        """Allows a model's engine to be stopped again; returns the model. Raises as `pin`."""
        return self._set_pinned(name, False)

    def pinned(self) -> set[str]:
        """The ids of the pinned models."""
        query = select(ModelRow.id).where(ModelRow.pinned, ModelRow.state != "retired")
        with self._database.read() as session:
            return set(session.scalars(query))

    def _set_pinned(self, name: str, pinned: bool) -> ModelSpec:
        spec = self.resolve(name)
        if spec.kind == "hosted":
            raise Invalid(f"{spec.id!r} is hosted and has no engine here that could be pinned.", param="model")
        if spec.kind == "adapter":
            raise Invalid(f"{spec.id!r} runs on the engine of {spec.base!r}: pin or unpin that model.", param="model")
        with self._change() as session:
            _row(session, spec.id).pinned = pinned
            record_change(session, "model.pin" if pinned else "model.unpin", spec.id)
        return spec

    def alias(self, name: str, target: str) -> None:
        """Points an alias to a model; an existing alias moves atomically."""
        self._point_alias(name, target, None)

    def split_alias(self, name: str, weights: Mapping[str, float]) -> None:
        """Divides an alias's requests among models in proportion to their weights; replaces what it was before.

        Raises:
            Invalid: fewer than two models, a weight that is not a positive number, or a retired model.
            NotFound: no model has that id. Conflict: a model has the alias's name.
        """
        if len(weights) < 2:
            raise Invalid("Split an alias between two or more models, such as a=90,b=10.", param="to")
        for model, weight in weights.items():
            if not (math.isfinite(weight) and 0 < weight <= _MAX_WEIGHT):
                raise Invalid(
                    f"The weight of {model!r} must be above 0; leave a model out to give it none.", param="to"
                )
        # In the order of the ids: a change of two weights then moves as few users as possible.
        ordered = {model: float(weights[model]) for model in sorted(weights)}
        self._point_alias(name, max(ordered, key=lambda model: ordered[model]), ordered)

    def _point_alias(self, name: str, target: str, weights: dict[str, float] | None) -> None:
        with self._change() as session:
            if session.get(ModelRow, name):
                raise Conflict(f"{name!r} is a model's id, so it cannot be an alias.")
            _check_live(name)
            if not is_valid_name(name):
                raise Invalid(f"{name!r} cannot be an alias: {NAME_RULE}.", param="name")
            for model in weights or (target,):
                if _row(session, model).state == "retired":
                    raise Invalid(f"{model!r} is retired, so no alias can point to it.", param="target")
            session.merge(AliasRow(name=name, target=target, weights=weights))
            record_change(session, "alias.set", name, to=weights or target)

    def unalias(self, name: str) -> None:
        """Removes an alias."""
        with self._change() as session:
            row = session.get(AliasRow, name)
            if row is None:
                raise NotFound(f"There is no alias {name!r}.")
            session.delete(row)
            record_change(session, "alias.remove", name)

    def aliases(self) -> dict[str, str]:
        """Every alias with its model's id: the heaviest of several models."""
        with self._database.read() as session:
            return {row.name: row.target for row in session.scalars(select(AliasRow).order_by(AliasRow.name))}

    def alias_weights(self) -> dict[str, dict[str, float]]:
        """The aliases that are split between several models: alias → model id → weight."""
        with self._database.read() as session:
            rows = session.scalars(select(AliasRow).order_by(AliasRow.name))
            return {row.name: dict(row.weights) for row in rows if row.weights}

    @contextmanager
    def _change(self) -> Iterator[Session]:
        """A transaction that first raises the revision. That locks its row, which serialises changes."""
        with self._database.write() as session:
            bump_revision(session)
            yield session

    def revision(self) -> int:
        """The revision number, which every change raises; 0 at first."""
        with self._database.read() as session:
            return session.scalar(select(RevisionRow.value)) or 0


def bump_revision(session: Session) -> None:
    """Raises the revision number, in the transaction of the change that the gateway must see."""
    raised = update(RevisionRow).where(RevisionRow.id == 1).values(value=RevisionRow.value + 1)
    if session.execute(raised).rowcount == 0:  # pyrefly: ignore[missing-attribute] -- an UPDATE's result has it
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        session.execute(insert(RevisionRow).values(id=1, value=0).on_conflict_do_nothing())
        session.execute(raised)


def check_upstream_address(address: str) -> None:
    """Raises Invalid for a new upstream's address with a user name or password, which lists would show."""
    if "@" in address.partition("://")[2].split("/", 1)[0]:
        # The message does not repeat the address, because it has the password.
        raise Invalid(
            "The upstream's address may not have a user name or password: put the key into an environment variable "
            "and name that as the credential.",
            param="upstream",
        )


def parse_spec(**fields: object) -> ModelSpec:
    """A ModelSpec from user input.

    Raises:
        Invalid: the message names the field and its fault.
    """
    try:
        return ModelSpec.model_validate(fields)
    except ValidationError as error:
        location = error.errors()[0]["loc"]
        raise Invalid(
            f"The model is not valid: {_reason(error)}.", param=".".join(map(str, location)) or None
        ) from error


def _check_live(name: str) -> None:
    """Refuses the names of recordings, so that one is never served as a live model."""
    if is_recorded_name(name):
        raise Invalid(f"{name!r} cannot be a model's name: names with @recorded mean recorded answers.", param="name")


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return (f"{field}: " if field else "") + first["msg"].removeprefix("Value error, ")


def _spec(row: ModelRow) -> ModelSpec:
    return ModelSpec.model_validate(row.spec | {"state": row.state})


def _row(session: Session, model_id: str) -> ModelRow:
    row = session.get(ModelRow, model_id)
    if row is None:
        raise NotFound(f"There is no model {model_id!r}.", code="model_not_found", param="model")
    return row


def _set_state(session: Session, row: ModelRow, state: State) -> None:
    if row.state != state:
        record_change(session, "model.state", row.id, state=state)
    row.state = state


def _check_base(session: Session, spec: ModelSpec) -> None:
    base = session.get(ModelRow, spec.base)
    if base is None or base.state == "retired":
        raise Invalid(f"The adapter's base {spec.base!r} is not registered: add it first.", param="base")
    if base.kind not in ("base", "merged"):
        raise Invalid(
            f"{spec.base!r} is of kind {base.kind}: an adapter needs a base or merged model.",
            param="base",
        )
    rank = base.spec["engine"]["max_lora_rank"]
    base_folder = Path(base.spec["path"])
    local = base_folder.is_absolute()  # not a hub id
    config = read_json(base_folder / "config.json") if local else {}
    adapter = read_adapter_config(spec.folder) if spec.folder else {}
    tensors = _tensors(spec.folder) if spec.folder else {}
    if fault := misfit(tensors, config, tensor_names(base_folder) if local else ()):
        trained = adapter.get("base_model_name_or_path")
        name = f", {trained!r}" if trained else ""
        raise Invalid(
            f"The adapter does not fit {spec.base!r}: {fault}. Give the base that it was trained on{name}.",
            param="base",
        )
    values = adapter or {"r": spec.lora_rank or 0}
    if reason := must_be_merged(values, rank, config, tensors):
        raise merge_instead(spec, reason)


def merge_instead(spec: ModelSpec, reason: str) -> Invalid:
    """The refusal of an adapter that its base's engine cannot load, with the command that merges it."""
    return Invalid(
        f"The adapter cannot be served on {spec.base!r}: {reason}. Merge it: "
        f"`parley models add {spec.id} --path {spec.path} --base {spec.base} --merge`.",
        param="path",
    )


def _tensors(folder: Path) -> dict[str, tuple[int, ...]]:
    """The adapter's tensors by name; empty if they cannot be read, which an engine reports."""
    try:
        return tensor_shapes(folder / "adapter_model.safetensors")
    except Invalid:
        return {}


def check_fallbacks(session: Session, spec: ModelSpec) -> None:
    """Raises Invalid unless each of a model's fallbacks is registered."""
    for name in spec.fallbacks:
        if session.get(AliasRow, name):
            raise Invalid(f"The fallback {name!r} is an alias, which can move: give the model's id.", param="fallbacks")
        row = session.get(ModelRow, name)
        if row is None or row.state == "retired":
            raise Invalid(f"The fallback {name!r} is not registered: add it first.", param="fallbacks")
