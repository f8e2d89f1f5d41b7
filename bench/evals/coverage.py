"""How often simulated intervals contain the truth, and how wide they are."""

from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class Coverage:
    """Collects intervals, one or an array of them per simulated run."""

    hits: list[float] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)

    def add(self, low: ArrayLike, high: ArrayLike, truth: ArrayLike) -> None:
        """Adds a run's intervals and the true values."""
        low, high, truth = np.asarray(low), np.asarray(high), np.asarray(truth)
        self.hits.append(float(((low <= truth) & (truth <= high)).mean()))
        self.widths.append(float((high - low).mean()))

    @property
    def covered(self) -> float:
        """The share of intervals that contain the truth."""
        return fmean(self.hits)

    @property
    def width(self) -> float:
        """The mean width."""
        return fmean(self.widths)
