"""How well an observer can distinguish two classes: ridge logistic regression, tested on unseen groups."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

_FOLDS = 10
_RIDGE = 10.0
_Z = 1.959963984540054  # 97.5 % of the normal distribution


@dataclass(frozen=True)
class Accuracy:
    """The share of right guesses, with Wilson's 95 % interval. 0.5 is chance."""

    accuracy: float
    low: float
    high: float


def accuracy(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Accuracy:
    """The accuracy of predicting `labels` from `features`, their squares and their products.

    Args:
        features: (n, k) numbers. labels: (n,) booleans. groups: (n,) integers; a group is never in both the training
            and the test part, so that what is particular to one rater cannot help.
    """
    right = np.zeros(len(labels), bool)
    for fold in np.array_split(np.unique(groups), min(_FOLDS, len(np.unique(groups)))):
        held_out = np.isin(groups, fold)
        mean, spread = features[~held_out].mean(0), features[~held_out].std(0)
        rows = _with_products((features - mean) / np.where(spread > 0, spread, 1))
        weights = _fit(rows[~held_out], labels[~held_out])
        right[held_out] = (rows[held_out] @ weights > 0) == labels[held_out]
    return wilson(float(right.mean()), len(right))


def wilson(share: float, n: int) -> Accuracy:
    """A share of n with Wilson's 95 % interval."""
    centre, width = share + _Z**2 / (2 * n), _Z * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Accuracy(share, (centre - width) / (1 + _Z**2 / n), (centre + width) / (1 + _Z**2 / n))


def _with_products(rows: np.ndarray) -> np.ndarray:
    """The rows with a constant, their squares and products; extreme values count no more than four deviations."""
    rows = np.clip(rows, -4, 4)
    first, second = np.triu_indices(rows.shape[1])
    return np.hstack([np.ones((len(rows), 1)), rows, rows[:, first] * rows[:, second]])


def _fit(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    signs = np.where(labels, 1.0, -1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signs * (rows @ weights)
        slope = -signs * expit(-margin)
        value = float(np.logaddexp(0, -margin).sum() + _RIDGE / 2 * weights @ weights)
        return value, rows.T @ slope + _RIDGE * weights

    return minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B").x
