"""A new model as described on the command line or over HTTP, and its spec."""

import os.path
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.chat.system_messages import Folding
from models.chat_templates.inspection import inspect_template
from models.chat_templates.tokenizer_files import read_added_tokens, read_folder_template, read_named_tokens
from models.compatibility.folder_checks import (
    check_folder,
    differs_from_base,
    expand_user,
    find_kind,
    find_weights,
    is_gguf,
)
from models.errors import Invalid
from models.registry.registry import Registry, check_upstream_address, merge_instead, parse_spec
from models.spec import Kind, ModelSpec
from models.weights import guess_kind, read_adapter_config, read_lora_rank


@dataclass(frozen=True)
class NewModel:
    """A model to register: either `path`, a folder or hub id, or `upstream`, an OpenAI-compatible address.

    `kind` and an adapter's `base` are read from the files unless they are set. `engine`: fields of
    `models.spec.EngineOptions`. `fold_system`: put system messages that the chat template does not support into user
    turns.
    """

    name: str
    path: str | None = None
    kind: Kind | None = None
    base: str | None = None
    upstream: str | None = None
    upstream_model: str | None = None
    credential: str | None = None
    fallbacks: tuple[str, ...] = ()
    usd_per_million_input: float | None = None
    usd_per_million_output: float | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    pin: bool = False
    fold_system: bool = False

    @property
    def is_gguf(self) -> bool:
        """Whether its weights are a GGUF file, which must be unpacked before it is registered."""
        return self.path is not None and is_gguf(self.path) and os.path.isfile(expand_user(self.path))

    def register(self, registry: Registry) -> ModelSpec:
        """Checks the model, registers it, and pins it if `pin` is set.

        Raises:
            Invalid: as `spec`; or an adapter's base is not registered, or its engine cannot load the adapter.
            Conflict: the name is taken.
        """
        spec = self.complete(registry)
        if reason := _find_difference(spec, registry):
            raise merge_instead(spec, reason)
        registry.register(spec)
        if self.pin:
            registry.pin(spec.id)
        return spec

    def complete(self, registry: Registry) -> ModelSpec:
        """The spec to register. An adapter's has the id of its base and the base's folding of system messages.

        Raises:
            Invalid: as `spec`; or the base that the adapter names is not registered.
        """
        spec = self._with_base(registry).spec()
        base = _base_of(spec, registry)
        if base is None:
            return spec
        # An adapter without a template is served, or merged, with its base's.
        folding = _folding(spec, base) if self.fold_system or base.fold_system != "none" else "none"
        return spec.model_copy(update={"fold_system": folding})

    def _with_base(self, registry: Registry) -> "NewModel":
        """The same model with the id of its base: an adapter without one gets the base that its configuration names.

        Raises:
            Invalid: that base is not registered, or the configuration names none.
        """
        if self.base:
            return replace(self, base=registry.aliases().get(self.base, self.base))
        if not self.path or guess_kind(str(expand_user(self.path)), None) != "adapter":
            return self
        folder = expand_user(self.path).absolute()
        check_folder(folder, find_kind(folder, self.kind, None))  # a damaged folder is reported first
        named = str(read_adapter_config(folder).get("base_model_name_or_path") or "")
        for spec in registry.list(include_candidates=True) if named else ():
            if named in (spec.id, spec.path) and spec.kind in ("base", "merged"):
                return replace(self, base=spec.id)
        fault = f"was trained on {named!r}, which is not registered" if named else "does not name its base"
        mend = "add that model, then give its id" if named else "give the base's id"
        raise Invalid(f"The adapter in {folder} {fault}: {mend} as --base.", param="base")

    def spec(self) -> ModelSpec:
        """The spec to register. The files in a folder are checked (`folder_checks`).

        Raises:
            Invalid: the description contradicts itself or the files, a value is wrong, or the files cannot be served.
        """
        path, upstream = self.path, self.upstream
        if path and upstream:
            raise Invalid("A model has weights or an upstream, not both: give a path or an upstream.")
        if not path and not upstream:
            raise Invalid(
                "The model has no location: give a path (a folder or hub id) or an upstream (an address).", param="path"
            )
        if upstream:
            check_upstream_address(upstream)
        hosted = {
            "model": self.upstream_model, "credential": self.credential,
            "usd_per_million_input": self.usd_per_million_input, "usd_per_million_output": self.usd_per_million_output,
        }  # fmt: skip
        if not upstream and any(value is not None for value in hosted.values()):
            raise Invalid("An upstream's model, credential and prices need the upstream's address.", param="upstream")
        if path:
            path = find_weights(path)
        spec = parse_spec(
            id=self.name,
            kind=self._kind(path),
            path=path,
            base=self.base,
            upstream=hosted | {"base_url": upstream, "model": self.upstream_model or self.name} if upstream else None,
            fallbacks=self.fallbacks,
            lora_rank=read_lora_rank(path) if path else None,
            engine=dict(self.engine),
            description=self.description,
        )
        if spec.folder is not None:
            check_folder(spec.folder, spec.kind, trust_remote_code=spec.engine.trust_remote_code)
            _check_folder_template(spec, spec.folder)
        if self.fold_system:
            spec = spec.model_copy(update={"fold_system": _folding(spec)})
        if spec.kind in ("base", "merged"):
            return spec
        if options := list(spec.engine.model_dump(exclude_defaults=True)):
            mend = f"set {options[0]} for its base" if spec.kind == "adapter" else f"leave {options[0]} out"
            raise Invalid(f"A model of kind {spec.kind} does not have its own engine: {mend}.", param="engine")
        if self.pin:
            raise Invalid(
                f"A model of kind {spec.kind} does not have its own engine, so it cannot be pinned.", param="pin"
            )
        return spec

    def _kind(self, path: str | None) -> Kind:
        if path is None:
            return self.kind or "hosted"
        folder = Path(path)
        if folder.is_absolute() and self.kind != "hosted":
            return find_kind(folder, self.kind, self.base)
        return self.kind or ("merged" if self.base else "base")


def _check_folder_template(spec: ModelSpec, folder: Path) -> None:
    """Refuses a model whose engine would use a broken template. An adapter's template is compared with its base's."""
    template = None if spec.kind == "adapter" or spec.engine.chat_template else read_folder_template(folder)
    fault = inspect_template(template, read_named_tokens(folder), read_added_tokens(folder)).broken if template else ""
    if fault:
        raise Invalid(
            f"The chat template in {folder} is broken: {fault}. Copy it from the original model, or give another one "
            "with --chat-template.",
            param="path",
        )


def lacks_chat_template(spec: ModelSpec) -> bool:
    """Whether a model with an engine of its own has no chat template; False if that is unknown, as for a hub id."""
    if spec.kind not in ("base", "merged") or spec.folder is None or spec.engine.chat_template:
        return False
    return read_folder_template(spec.folder) is None and (spec.folder / "tokenizer_config.json").is_file()


def _base_of(spec: ModelSpec, registry: Registry) -> ModelSpec | None:
    """The registered base of an adapter; None for other kinds and unregistered bases."""
    if spec.kind != "adapter":
        return None
    return next((other for other in registry.list(include_candidates=True) if other.id == spec.base), None)


def _find_difference(spec: ModelSpec, registry: Registry) -> str | None:
    """Why an adapter cannot use its base's engine (`differs_from_base`); None if it can, or is not an adapter."""
    base = _base_of(spec, registry)
    if base is None or spec.folder is None or base.folder is None:
        return None
    return differs_from_base(spec.folder, base.folder, base.engine.chat_template)


def _folding(spec: ModelSpec, base: ModelSpec | None = None) -> Folding:
    """Which system messages a model's template does not support: all of them if that is unknown."""
    template, tokens = None, {"bos_token": "<s>", "eos_token": "</s>"}  # a hub id has no files yet
    for model in filter(None, (base, spec)):
        in_folder = read_folder_template(model.folder) if model.folder else None
        template = model.engine.chat_template or in_folder or template
        tokens |= read_named_tokens(model.folder) if model.folder else {}
    return "later" if template and inspect_template(template, tokens).system_role else "all"
