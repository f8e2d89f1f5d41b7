"""Which engines fit beside each other, with which shares of the machine, and which one makes room for a requested one.

Pure decisions over what runs, what is pinned, and last use.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from models.errors import Invalid, ParleyError
from models.settings.settings import Settings
from models.spec import ModelSpec
from serve.fleet.machine import Machine
from serve.fleet.replica_names import model_of, replica_name

_GIB = 1024**3
_MIN_KV_CACHE_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Share:
    """One engine's share of the machine: on a CPU, cores and bytes of KV cache; on GPUs, their indices and memory
    share.
    """

    device: Literal["cpu", "cuda"]
    cores: tuple[int, ...] = ()
    kv_cache_bytes: int = 0
    gpus: tuple[int, ...] = ()
    gpu_memory_share: float = 0.0


@dataclass(frozen=True)
class Fit:
    """Model id → share for the engines that fit; model id → reason for those that do not."""

    shares: dict[str, Share] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def fit(
    machine: Machine,
    engines: Sequence[ModelSpec],
    settings: Settings,
    placed: Mapping[str, tuple[int, ...]],
    check: Callable[[Mapping[str, Share], Mapping[str, ModelSpec]], None] | None = None,
) -> Fit:
    """Plans as many of the engines as fit: one that asks for too much does not keep others from running.

    Args:
        engines: in order of priority.
        placed: model id → GPUs of the engines that stay where they are.
        check: raises a ParleyError if shares do not fit into memory: see `serve.fleet.memory`.
    """
    admitted: list[ModelSpec] = []
    result = Fit()
    for spec in engines:
        try:
            shares = plan(machine, [*admitted, spec], settings, placed)
            if check is not None and spec.id not in placed:
                check(shares, {spec.id: spec for spec in (*admitted, spec)})
        except ParleyError as error:
            result.refused[spec.id] = str(error)
        else:
            admitted.append(spec)
            result = Fit(shares, result.refused)
    return result


def plan(
    machine: Machine,
    engines: Sequence[ModelSpec],
    settings: Settings,
    placed: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> dict[str, Share]:
    """Model id → share, for engines that run side by side.

    On a CPU each gets its own cores if there are enough (two engines bound to the same core ran at half speed) and an
    equal part of the KV cache. On a GPU each gets an equal part of its GPU's `gpu_memory_share` unless its spec asks
    for a share. Engines go to the GPU with the most room, those with several GPUs to as many. Engines in `placed`
    keep their GPUs.

    Raises:
        Invalid: the specs ask for more than there is.
    """
    return _plan_gpu(machine, engines, settings, placed) if machine.gpus else _plan_cpu(machine, engines, settings)


def _plan_cpu(machine: Machine, engines: Sequence[ModelSpec], settings: Settings) -> dict[str, Share]:
    if not engines:
        return {}
    kv_cache = max(int(settings.cpu_kv_cache_gib * _GIB / len(engines)), _MIN_KV_CACHE_BYTES)
    # With five or more cores, one is left to the gateway and the page.
    cores = machine.cores[1:] if len(machine.cores) > 4 else machine.cores
    shares = {}
    for number, spec in enumerate(engines):
        if len(cores) >= len(engines):
            start = number * len(cores) // len(engines)
            own = cores[start : (number + 1) * len(cores) // len(engines)]
        else:
            own = (cores[number % len(cores)],)
        shares[spec.id] = Share("cpu", cores=own, kv_cache_bytes=kv_cache)
    return shares


def _plan_gpu(
    machine: Machine, engines: Sequence[ModelSpec], settings: Settings, placed: Mapping[str, tuple[int, ...]]
) -> dict[str, Share]:
    limit = settings.gpu_memory_share
    requested: dict[int, float] = {gpu.index: 0.0 for gpu in machine.gpus}
    sharing: dict[int, int] = {gpu.index: 0 for gpu in machine.gpus}
    places: dict[str, tuple[int, ...]] = {}
    for spec in sorted(engines, key=lambda spec: (spec.id not in placed, -spec.engine.gpus)):
        gpu_count = spec.engine.gpus
        if gpu_count > len(machine.gpus):
            raise Invalid(f"{spec.id} needs {gpu_count} GPUs; this machine has {len(machine.gpus)}.", param="engine")
        least = sorted(requested, key=lambda index: (sharing[index] + 10 * requested[index], index))[:gpu_count]
        places[spec.id] = placed.get(spec.id) or tuple(sorted(least))
        for index in places[spec.id]:
            requested[index] += spec.engine.gpu_memory_share or 0.0
            sharing[index] += spec.engine.gpu_memory_share is None
    shares = {}
    for spec in engines:
        cards = places[spec.id]
        left = min((limit - requested[index]) / max(sharing[index], 1) for index in cards)
        if max(requested[index] for index in cards) > limit + 1e-9 or (
            spec.engine.gpu_memory_share is None and left <= 0
        ):
            raise Invalid(
                f"The engines on GPU {cards[0]} ask for more than {limit:.0%} of its memory: lower their "
                "gpu_memory_share, or retire a model.",
                param="gpu_memory_share",
            )
        share = spec.engine.gpu_memory_share or int(left * 1000) / 1000
        shares[spec.id] = Share("cuda", gpus=cards, gpu_memory_share=share)
    return shares


@dataclass(frozen=True)
class PlacedEngine:
    """An engine that has a share of the machine. `movable`: neither pinned nor so young that stopping it would be
    thrashing.

    `used`: when it last had a request, on a monotonic clock.
    """

    name: str
    movable: bool
    used: float
    pinned: bool = False


@dataclass(frozen=True)
class Decision:
    """`admit`: the shares with which the engine starts now. `drain`: engines to stop first. `wait`: why it does not
    start yet.

    `never`: why it would not fit even without the engines that are not pinned.
    """

    admit: Fit | None = None
    drain: tuple[str, ...] = ()
    wait: dict[str, str] = field(default_factory=dict)
    never: dict[str, str] = field(default_factory=dict)


def decide_placement(
    tenants: Sequence[PlacedEngine], leaving: bool, wanted: str, fits: Callable[[Sequence[str], str], Fit]
) -> Decision:
    """Decides what to do for one requested engine.

    Args:
        leaving: whether an engine is already being stopped; no other one is until it is gone.
        fits: (engines that stay, new engine) → the plan, with the new engine in `refused` if it does not fit.
    """
    staying = [placed.name for placed in tenants]
    fit = fits(staying, wanted)
    if wanted in fit.shares:
        return Decision(admit=fit)
    reason = fit.refused.get(wanted, "there is not enough memory")
    if leaving:
        return Decision(wait={wanted: "waiting for memory: another model is finishing its requests"})
    order = sorted((placed for placed in tenants if placed.movable), key=lambda placed: placed.used)
    for count in range(1, len(order) + 1):
        out = {placed.name for placed in order[:count]}
        if wanted in fits([name for name in staying if name not in out], wanted).shares:
            return Decision(drain=tuple(placed.name for placed in order[:count]))
    pinned = [placed.name for placed in tenants if placed.pinned]
    alone = fits(pinned, wanted)
    if wanted in alone.shares:
        return Decision(wait={wanted: f"waiting for memory: {reason}"})
    if wanted in fits((), wanted).shares:
        return Decision(
            wait={wanted: (f"waiting for memory: {reason}; {', '.join(pinned)} is pinned: unpin or retire one")}
        )
    return Decision(never={wanted: alone.refused.get(wanted, reason)})


@dataclass(frozen=True)
class DesiredState:
    """What should run: an engine for each of `engines`, by replica name, with its base's adapters in `adapters`.

    `pinned`: engines that are never stopped to make room.
    """

    engines: dict[str, ModelSpec]
    adapters: dict[str, dict[str, ModelSpec]]
    pinned: frozenset[str] = frozenset()


def desired_state(
    specs: Sequence[ModelSpec],
    pinned: Collection[str] = (),
    replicas: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> DesiredState:
    """Groups the registry's models into engines and their adapters. Hosted models need neither.

    Args:
        replicas: model id → the numbers of its engines; 1 alone for models that are not in it.
    """
    own = [spec for spec in specs if spec.kind in ("base", "merged")]
    hanging: dict[str, dict[str, ModelSpec]] = {spec.id: {} for spec in own}
    for spec in specs:
        if spec.kind == "adapter" and spec.base in hanging:
            hanging[spec.base][spec.id] = spec
    # First one replica of each model, then the others: where there is little room, each model runs.
    numbered = sorted(
        ((place, number, spec) for spec in own for place, number in enumerate(replicas.get(spec.id, (1,)))),
        key=lambda entry: entry[0],
    )
    engines = {replica_name(spec.id, number): spec for _, number, spec in numbered}
    return DesiredState(engines, hanging, frozenset(name for name in engines if model_of(name) in pinned))
