"""Adds up the metrics of several gateway processes, so that they look like those of one."""

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.core import Metric

# A family as plain JSON values: name, help, type, and samples of (name, labels, value).
Family = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]

# Every process reports these of the whole, or of the machine.
_THE_SAME = frozenset({"parley_model_state", "parley_replicas", "process_max_fds"})
_BREAKERS = "parley_breaker_state"
_BREAKER_STATES = ("open", "half_open", "closed")  # the worst first
_EARLIEST = "process_start_time_seconds"
_LASTING = frozenset({"counter", "histogram"})


def plain_families(metrics: Iterable[Metric]) -> list[Family]:
    """Metrics as plain values."""
    return [
        (
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in metrics
    ]


def lasting_families(families: Iterable[Family]) -> list[Family]:
    """What a process that has ended still counts for: its counters and histograms."""
    return [family for family in families if family[2] in _LASTING]


def add_families(parts: Sequence[Sequence[Family]]) -> list[Family]:
    """The sums over processes. States that all of them report are the first one's."""
    heads: dict[str, tuple[str, str]] = {}
    sums: dict[str, dict[tuple[Any, ...], float]] = {}
    for part in parts:
        for name, what, kind, samples in part:
            heads.setdefault(name, (what, kind))
            known = sums.get(name)
            if known is not None and name in _THE_SAME:
                continue
            known = sums.setdefault(name, {})
            for sample, labels, value in samples:
                slot = (sample, *labels.items())
                if slot not in known:
                    known[slot] = value
                elif name == _EARLIEST:
                    known[slot] = min(known[slot], value)
                else:
                    known[slot] += value
    if _BREAKERS in sums:
        sums[_BREAKERS] = _worst_states(sums[_BREAKERS])
    return [
        (name, *heads[name], [(slot[0], dict(slot[1:]), value) for slot, value in known.items()])
        for name, known in sums.items()
    ]


def to_metrics(families: Iterable[Family]) -> list[Metric]:
    """Plain values as metrics."""
    metrics = []
    for name, what, kind, samples in families:
        metric = Metric(name, what, kind)
        for sample in samples:
            metric.add_sample(*sample)
        metrics.append(metric)
    return metrics


def _worst_states(states: dict[tuple[Any, ...], float]) -> dict[tuple[Any, ...], float]:
    """One state per circuit breaker, although each process has its own."""
    worst: dict[str, tuple[Any, ...]] = {}
    for slot in states:
        labels = dict(slot[1:])
        before = worst.get(labels["model"])
        if before is None or _rank(labels) < _rank(dict(before[1:])):
            worst[labels["model"]] = slot
    return dict.fromkeys(worst.values(), 1.0)


def _rank(labels: dict[str, str]) -> int:
    return _BREAKER_STATES.index(labels["state"])
