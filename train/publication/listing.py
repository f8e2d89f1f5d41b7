"""From candidate to listed: the last check of a model, through its engine, and where it ends.

It asks through the running gateway (`asking`), holds the answers against the reference (`comparing`), stores what was
measured in the registry, and writes the model's card again. Without a gateway that part is recorded as not done.
"""

import json
from contextlib import suppress
from pathlib import Path

from models.errors import Invalid, NotFound, ParleyError
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec, Parity, ServedParity
from train.publication.cards import write_card
from train.publication.comparison import TEMPLATE, Compared, Reference, agreed_tokens, compare, judged
from train.publication.probes import kept
from train.publication.served_answers import request_answers
from train.run.folder import ADAPTER, RESULT
from train.run.progress import Progress, Stage, silent
from train.trainers.bases import Base, find_base, load_tokenizer


class TemplateChanged(ParleyError):
    """The chat template that a model is served with is not the one that it was trained with."""

    status = 422


def list_compared(
    spec: ModelSpec,
    reference: Reference,
    compared: Compared | None,
    *,
    registry: Registry,
    settings: Settings,
    progress: Progress = silent,
) -> Parity | None:
    """Asks a registered model through its engine, stores its parity, and lists it where it has passed.

    Returns:
        What was measured in all. Where `refused` says why, the model is left in the state in which it is. None where
        nothing could be compared: then it is listed, and its spec has no parity.
    """
    if compared is None:
        registry.set_state(spec.id, "listed")
        return None
    parity = compared.parity
    if not parity.refused:
        progress(Stage(f"Asking {spec.id} through the gateway"))
        parity = through_engine(spec.id, reference, compared, settings)
    registry.set_parity(spec.id, parity, None if parity.refused else "listed")
    if spec.folder is not None and spec.folder.is_relative_to(settings.models_dir):  # elsewhere the card is the user's
        write_card(spec.folder, registry.resolve(spec.id), registry)
    progress(Stage(told(spec.id, parity)))
    return parity


def through_engine(model: str, reference: Reference, compared: Compared, settings: Settings) -> Parity:
    """The same parity with what the model says through its engine, or with why it was not asked."""
    answers = request_answers(settings, model, compared.questions)
    if answers.reason:
        return compared.parity.model_copy(update={"not_served": answers.reason, "served": None})
    pairs = list(zip(compared.questions, answers.texts, strict=True))
    others = [(question, text) for question, text in pairs if text != question.text]
    alike = sum(question.tokens for question, text in pairs if text == question.text)
    agreed, tokens = agreed_tokens(reference, others) if others else (0, 0)
    served = ServedParity(
        asked=len(pairs), same_text=len(pairs) - len(others), tokens=alike + tokens,
        agreement=(alike + agreed) / max(1, alike + tokens),
    )  # fmt: skip
    return judged(compared.parity.model_copy(update={"served": served, "not_served": ""}))


def check_model(name: str, *, registry: Registry, settings: Settings, progress: Progress = silent) -> Parity:
    """Compares a registered adapter or merged model anew, here and through its engine; lists a candidate that passes.

    Raises:
        NotFound: no such model. Invalid: a base or a hosted model, which has nothing to be compared with.
        TemplateChanged: the base's chat template is another than the adapter was trained with. NoRoom: no memory.
    """
    spec = registry.resolve(name)
    if spec.kind not in ("adapter", "merged") or spec.folder is None:
        raise Invalid(
            f"{spec.id!r} is of kind {spec.kind}: only what was trained can be compared with its base.", param="model"
        )
    reference, published = _reference(spec, spec.folder, registry), _published(spec, spec.folder, registry)
    if spec.kind == "adapter":
        require_template(spec.folder, published.base)
    progress(Stage(f"Comparing {spec.id} with {reference.words or 'base + adapter'} in float32"))
    compared = compare(reference, published, kept(spec.folder))
    before = spec.parity
    if before is not None:  # what only a merge can measure is kept from then
        known = {"difference": before.difference, "limit": before.limit, "same_greedy": before.same_greedy}
        compared = Compared(compared.parity.model_copy(update=known), compared.questions)
    parity = list_compared(spec, reference, compared, registry=registry, settings=settings, progress=progress)
    assert parity is not None
    return parity


def told(name: str, parity: Parity) -> str:
    """What a check has found, in one line."""
    if parity.refused:
        return (
            f"{name} is not listed: {parity.refused}. It answers by its name as a candidate; "
            f"`parley models check {name}` compares again, `parley models retire {name}` takes it away."
        )
    if parity.served is None:
        return f"{name} was not asked through vLLM ({parity.not_served}): `parley models check {name}` does it later"
    return (
        f"{name} says through vLLM what float32 base + adapter says: {parity.served.agreement:.1%} of "
        f"{parity.served.tokens:,} tokens, {parity.served.same_text} of {parity.served.asked} answers to the letter"
    )


def require_template(adapter: Path, base: Base) -> None:
    """The base's chat template is still the one that the adapter was trained with, to the letter.

    Raises:
        TemplateChanged: it is not.
    """
    trained = adapter / TEMPLATE
    if trained.exists() and trained.read_bytes() != (load_tokenizer(base).chat_template or "").encode():
        raise TemplateChanged(
            f"The chat template of {base.name} is not the one that {adapter.name} was trained with: "
            f"put back {TEMPLATE} as it is in the adapter's folder, or train again."
        )


def _published(spec: ModelSpec, folder: Path, registry: Registry) -> Reference:
    if spec.kind == "adapter":
        return Reference(find_base(str(spec.base), registry), folder)
    return Reference(Base(spec.id, str(folder), spec, spec.engine.trust_remote_code), None)


def _reference(spec: ModelSpec, folder: Path, registry: Registry) -> Reference:
    """Float32 base + adapter, as it was when the model was made; the published weights where that is not here."""
    if spec.kind == "adapter":
        return _published(spec, folder, registry)
    adapter = _adapter_of(spec, folder, registry)
    if adapter is not None and spec.base is not None:
        with suppress(ParleyError):  # the base may have gone: what it was merged into is all that there is then
            return Reference(find_base(spec.base, registry), adapter)
    return Reference(_published(spec, folder, registry).base, None, "its own weights in float32")


def _adapter_of(spec: ModelSpec, folder: Path, registry: Registry) -> Path | None:
    """Where the adapter that was merged into these weights is; None where it is nowhere, or there were several."""
    try:
        parent = registry.resolve(spec.parent) if spec.parent else None
    except NotFound:
        parent = None
    if parent is not None and parent.kind == "adapter":
        # The run's own adapter sits on top of this one, unless the weights are this one's merge and nothing more.
        return parent.folder if parent.job == spec.job else None
    try:
        values = json.loads((folder / f"training-{RESULT}").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    adapter = Path(values["run_folder"]) / ADAPTER
    return adapter if adapter.is_dir() else None
