"""Trains the demo's two styles on another base, such as a small instruct model from a hub.

A pretrained base needs far fewer of the demo's conversations than the demo's base, which is trained from scratch.
"""

from collections.abc import Callable, Sequence
from typing import Any

from models.demo import OtherBase, StyledModel, catalogue
from models.errors import Invalid
from models.registry.registry import Registry, parse_spec
from models.settings.settings import Settings
from train.demo.catalogue import load_catalogue
from train.demo.dialogues import dialogues
from train.hyperparameters import Hyperparameters
from train.planning.plan import Plan, plan
from train.request import TrainingRequest
from train.run.progress import PlainLines, duration
from train.trainers.bases import check_servable, find_base
from train.training import train

CONVERSATIONS = 300
_SEED = 1
_HELD_OUT = 0.05
_VALUES = Hyperparameters(epochs=1, seed=_SEED)


def install_styles(
    other: OtherBase,
    *,
    settings: Settings,
    registry: Registry,
    report: Callable[[str], None],
    conversations: int = CONVERSATIONS,
) -> None:
    """Registers the base and trains the demo's styles on it, one after another.

    Registered models are not trained again, and an interrupted training continues from its last checkpoint.

    Args:
        other: the base and the names of the models.
        report: receives lines of progress. The first is the estimated time.

    Raises:
        Invalid, Unavailable: the base cannot be used. What `train` raises.
    """
    _register_base(other, registry)
    waiting = [model for model in other.styles if model.id not in _known(registry)]
    for number, model in enumerate(waiting):
        rows = style_conversations(model, conversations)
        if number == 0:
            request = TrainingRequest(rows, other.id, hyperparameters=_VALUES, validation=_HELD_OUT)
            planned = plan(request, registry=registry, settings=settings, measure=False)
            report(_describe_time(planned, len(waiting)))
        train(
            rows, base=other.id, name=model.id, kind=model.kind, settings=settings, registry=registry,
            out=settings.runs_dir / f"demo-{model.id}", resume=True, hyperparameters=_VALUES, validation=_HELD_OUT,
            description=model.description, bot=_bots()[model.demo_id],
            progress=PlainLines(lambda line, name=model.id: report(f"{name}: {line}")),
        )  # fmt: skip


def style_conversations(model: StyledModel, number: int) -> list[dict[str, Any]]:
    """The demo's conversations in a style, as rows of a chat file."""
    talks = dialogues(_SEED, load_catalogue(), model.style, number)
    return [{"messages": talk.as_dicts()} for talk in talks]


def _register_base(other: OtherBase, registry: Registry) -> None:
    base = find_base(other.location, registry)
    if other.id in _known(registry):
        if registry.resolve(other.id).path not in (base.location, other.location):
            raise Invalid(
                f"The name {other.id!r} belongs to another model: register this base under another name with `parley "
                "models add`, and give that name.",
                param="base",
            )
        return
    check_servable(base)
    registry.register(
        parse_spec(
            id=other.id, kind="base", path=base.location, bot=_bots()["demo-base"],
            description="The base of this demo, as published by its authors.",
        )
    )  # fmt: skip


def _describe_time(estimate: Plan, styles: int) -> str:
    way = estimate.way("lora")
    memory = f"{way.need.total / 1e9:.1f} GB of memory"
    return (
        f"Training {styles} {'styles' if styles > 1 else 'style'} on {estimate.examples:,} conversations: about "
        f"{duration(way.seconds)} each on {estimate.machine.name}, with {memory} (estimated)"
    )


def _bots() -> dict[str, Any]:
    return {model.id: model.bot for model in catalogue()}


def _known(registry: Registry) -> Sequence[str]:
    return [spec.id for spec in registry.list(include_candidates=True, include_retired=True)]
