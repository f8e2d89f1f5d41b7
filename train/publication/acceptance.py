"""Lists a candidate: the last parity check, through its engine, the registry's state and the model's card.

`served_answers` gets the answers and `comparison` compares them. Without a gateway the spec records that this part is
not done.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from models.errors import Invalid, NotFound, ParleyError
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Parity, ServedParity
from train.publication.adapted import TEMPLATE, trained_template
from train.publication.cards import write_card
from train.publication.comparison import Compared, Reference, agreed_tokens, compare, judged
from train.publication.probes import load_probes
from train.publication.served_answers import request_answers
from train.run.folder import ADAPTER, RESULT
from train.run.progress import Progress, Stage, silent
from train.trainers.bases import Base, find_base, load_tokenizer, with_options


class TemplateChanged(ParleyError):
    """The chat template that serves a model differs from the one of its training."""

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
    """Compares a registered model through its engine, stores its parity, and lists it if it passes.

    Returns:
        All measurements. If `refused` gives a reason, the model keeps its state. None if nothing could be compared:
        then the model is listed without parity.
    """
    if compared is None:
        registry.set_state(spec.id, "listed")
        return None
    parity = compared.parity
    if not parity.refused:
        progress(Stage(f"Comparing the answers of {spec.id} through the gateway"))
        parity = compare_served(spec.id, reference, compared, settings, lambda line: progress(Stage(line)))
    registry.set_parity(spec.id, parity, None if parity.refused else "listed")
    if spec.folder is not None and spec.folder.is_relative_to(settings.models_dir):  # elsewhere the card is not ours
        write_card(spec.folder, registry.resolve(spec.id), registry)
    progress(Stage(describe(spec.id, parity)))
    return parity


def compare_served(
    model: str,
    reference: Reference,
    compared: Compared,
    settings: Settings,
    report: Callable[[str], None] = lambda _: None,
) -> Parity:
    """The same parity with the comparison through the engine, or with the reason why there is none.

    `report` receives a line while the engine starts.
    """
    answers = request_answers(settings, model, compared.questions, report)
    if answers.reason:
        return compared.parity.model_copy(update={"not_served": answers.reason, "served": None})
    pairs = list(zip(compared.questions, answers.texts, strict=True))
    different = [(question, text) for question, text in pairs if text != question.text]
    equal = sum(question.tokens for question, text in pairs if text == question.text)
    agreed, tokens = agreed_tokens(reference, different) if different else (0, 0)
    served = ServedParity(
        asked=len(pairs), same_text=len(pairs) - len(different), tokens=equal + tokens,
        agreement=(equal + agreed) / max(1, equal + tokens),
    )  # fmt: skip
    return judged(compared.parity.model_copy(update={"served": served, "not_served": ""}))


def check_model(name: str, *, registry: Registry, settings: Settings, progress: Progress = silent) -> Parity:
    """Compares a registered adapter or merged model again, here and through its engine; lists a candidate that passes.

    Raises:
        NotFound: no such model. Invalid: a base or a hosted model, which cannot be compared with anything.
        TemplateChanged: the base's chat template differs from the training's. NotEnoughMemory.
    """
    spec = registry.resolve(name)
    if spec.kind not in ("adapter", "merged") or spec.folder is None:
        raise Invalid(
            f"{spec.id!r} is of kind {spec.kind}: only trained models can be compared with their base.", param="model"
        )
    reference, published = _reference(spec, spec.folder, registry), _published(spec, spec.folder, registry)
    if spec.kind == "adapter":
        require_template(spec.folder, published.base)
    else:  # its folder has the template of its training, which need not be that of its base
        template = load_tokenizer(published.base).chat_template
        reference = replace(reference, base=with_options(reference.base, template, trust_remote_code=False))
    progress(Stage(f"Comparing {spec.id} with {reference.description or 'base + adapter'} in float32"))
    compared = compare(reference, published, load_probes(spec.folder))
    before = spec.parity
    if before is not None:  # only a merge can measure these
        known = {"difference": before.difference, "limit": before.limit, "same_greedy": before.same_greedy}
        compared = Compared(compared.parity.model_copy(update=known), compared.questions)
    parity = list_compared(spec, reference, compared, registry=registry, settings=settings, progress=progress)
    assert parity is not None
    return parity


def describe(name: str, parity: Parity) -> str:
    """The result of a check, in one line."""
    if parity.refused:
        return (
            f"{name} is not listed: {parity.refused}. It is served by its name as a candidate; "
            f"`parley models check {name}` compares again, `parley models retire {name}` removes it."
        )
    if parity.served is None:
        return f"{name} was not compared through vLLM ({parity.not_served}); `parley models check {name}` does it later"
    return (
        f"{name} through vLLM matches float32 base + adapter: {parity.served.agreement:.1%} of "
        f"{parity.served.tokens:,} tokens are the same, and {parity.served.same_text} of {parity.served.asked} answers "
        "are identical"
    )


def require_template(adapter: Path, base: Base) -> None:
    """Raises TemplateChanged unless the base's chat template equals that of the adapter's training."""
    trained = trained_template(adapter)
    if trained is not None and trained != (load_tokenizer(base).chat_template or ""):
        raise TemplateChanged(
            f"The chat template of {base.name} differs from the one that {adapter.name} was trained with: "
            f"restore it from {TEMPLATE} in the adapter's folder, or train again."
        )


def _published(spec: ModelSpec, folder: Path, registry: Registry) -> Reference:
    if spec.kind == "adapter":
        return Reference(find_base(str(spec.base), registry), folder)
    return Reference(Base(spec.id, str(folder), spec, spec.engine.trust_remote_code), None)


def _reference(spec: ModelSpec, folder: Path, registry: Registry) -> Reference:
    """Float32 base + adapter of the training; the published weights if these are not available."""
    if spec.kind == "adapter":
        return _published(spec, folder, registry)
    adapter = _adapter_of(spec, folder, registry)
    if adapter is not None and spec.base is not None:
        with suppress(ParleyError):  # the base may be gone, and then only the merged weights are left
            return Reference(find_base(spec.base, registry), adapter)
    return Reference(_published(spec, folder, registry).base, None, "its own weights in float32")


def _adapter_of(spec: ModelSpec, folder: Path, registry: Registry) -> Path | None:
    """The adapter that was merged into these weights; None if it is gone, or if there were several."""
    try:
        parent = registry.resolve(spec.parent) if spec.parent else None
    except NotFound:
        parent = None
    if parent is not None and parent.kind == "adapter":
        # The run's own adapter comes on top of this one, unless the weights are only the merge of this one.
        return parent.folder if parent.job == spec.job else None
    try:
        values = json.loads((folder / f"training-{RESULT}").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    adapter = Path(values["run_folder"]) / ADAPTER
    return adapter if adapter.is_dir() else None
