"""How lengths vary over a data set: percentiles and a histogram. It does not know what is measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import Invalid

_BINS = 12


@dataclass(frozen=True)
class Spread:
    """How a number varies over the examples: percentiles by nearest rank, and the mean."""

    smallest: int
    p5: int
    median: int
    mean: float
    p95: int
    p99: int
    largest: int


@dataclass(frozen=True)
class Bin:
    """One bar of a histogram: how many examples have `low` ≤ length < `high`; None: no upper end."""

    low: int
    high: int | None
    examples: int


def spread(values: Sequence[int]) -> Spread:
    """Percentiles by nearest rank (so each is a length that some example has), and the mean.

    Raises:
        Invalid: no values.
    """
    if not values:
        raise Invalid("There are no examples to measure.", param="data")
    ordered = sorted(values)

    def at(share: float) -> int:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return Spread(ordered[0], at(0.05), at(0.5), sum(ordered) / len(ordered), at(0.95), at(0.99), ordered[-1])


def histogram(values: Sequence[int], bins: int = _BINS) -> tuple[Bin, ...]:
    """Bars of one round width (1, 2 or 5 times a power of ten) up to the 99th percentile; the last takes the rest.

    A single very long example would otherwise push all others into the first bar.
    """
    if not values:
        return ()
    top, largest = spread(values).p99, max(values)
    width = next(size for power in range(12) for size in (10**power, 2 * 10**power, 5 * 10**power) if size * bins > top)
    bars = top // width + 1
    counts = [0] * bars
    rest = 0
    for value in values:
        if value // width < bars:
            counts[value // width] += 1
        else:
            rest += 1
    first = next(place for place, number in enumerate(counts) if number)
    rows = [Bin(place * width, (place + 1) * width, counts[place]) for place in range(first, bars)]
    return (*rows, Bin(bars * width, None, rest)) if largest >= bars * width else tuple(rows)
