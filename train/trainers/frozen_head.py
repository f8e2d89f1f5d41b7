"""The loss of a last layer that is not trained, on a CPU: one pass over the vocabulary, in tiles that fit the cache.

The gradient of a token's loss is Σ pᵢ·wᵢ − w_target, a softmax-weighted sum of the layer's rows. As in FlashAttention
(arXiv:2205.14135) the sum begins before the largest logit is known, and is scaled down whenever a larger one appears.
So each logit is computed once, and no more than one tile of them is in memory.
"""

from collections.abc import Callable
from typing import Any

import torch

_ROWS, _WORDS = 512, 2_048  # logits in a tile: 4 MB in float32

# Scales and caps logits in place; returns the derivative, None if it is 1
Transform = Callable[[torch.Tensor], torch.Tensor | float | None]


class FrozenHeadLoss(torch.autograd.Function):
    """(sum of losses in nats, number of targets ranked first) over rows; forward computes the gradient.

    Arguments: states (rows, width), weight (vocabulary, width), bias (vocabulary) or None, targets (rows), transform,
    keep (whether a gradient is wanted).
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        transform: Transform,
        keep: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else states.dtype
        gradient = torch.empty_like(states) if keep and ctx.needs_input_grad[0] else None
        matrix = weight.to(dtype)
        total, right = torch.zeros((), dtype=torch.float32), torch.zeros((), dtype=torch.long)
        for start in range(0, len(states), _ROWS):
            part = slice(start, start + _ROWS)
            rows = _Rows(states[part].to(dtype), targets[part], transform, gradient is not None)
            for first in range(0, len(matrix), _WORDS):
                words = slice(first, first + _WORDS)
                rows.add(first, matrix[words], None if bias is None else bias[words])
            total += rows.losses().sum()
            right += rows.ranked_first().sum()
            if gradient is not None:
                gradient[part] = rows.gradient(matrix)
        ctx.gradient = gradient
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, of_sum: torch.Tensor, of_right: Any) -> Any:  # type: ignore[override]  # torch declares it without types
        gradient, ctx.gradient = ctx.gradient, None  # so that nothing of the batch outlives the step
        return (None if gradient is None else gradient.mul_(of_sum), None, None, None, None, None)


class _Rows:
    """Running sums of some rows over the tiles of the vocabulary; all are (rows, 1) but `weighted` (rows, width)."""

    def __init__(self, states: torch.Tensor, targets: torch.Tensor, transform: Transform, weighted: bool) -> None:
        column = torch.zeros(len(states), 1, dtype=torch.float32)
        self._states, self._targets, self._transform = states, targets.unsqueeze(1), transform
        self._top = torch.full_like(column, -torch.inf)
        self._mass, self._aim, self._slope = column, column.clone(), torch.ones_like(column)
        self._first = torch.zeros(len(states), dtype=torch.bool)
        self._weighted = torch.zeros(states.shape, dtype=torch.float32) if weighted else None

    def add(self, first: int, tile: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Adds the words from `first` on, whose rows of the last layer are `tile`."""
        logits = (self._states @ tile.t()).float()
        if bias is not None:
            logits += bias
        slope = self._transform(logits)
        place = self._targets - first
        inside = (place >= 0) & (place < len(tile))
        place = place.clamp(0, len(tile) - 1)
        self._aim = torch.where(inside, logits.gather(1, place), self._aim)
        here = inside.squeeze(1)
        # As argmax does: of equal logits the first one counts.
        first_here = (logits[here].argmax(1, keepdim=True) == place[here]) & (self._aim[here] > self._top[here])
        self._first[here] = first_here.squeeze(1)
        top = torch.maximum(self._top, logits.amax(1, keepdim=True))
        shrink = (self._top - top).exp()
        shares = logits.sub_(top).exp_()
        self._mass = self._mass * shrink + shares.sum(1, keepdim=True)
        self._top = top
        if self._weighted is None:
            return
        if isinstance(slope, torch.Tensor):
            self._slope = torch.where(inside, slope.gather(1, place), self._slope)
        elif slope is not None:
            self._slope.fill_(slope)
        if slope is not None:
            shares.mul_(slope)
        self._weighted.mul_(shrink)
        if tile.dtype == torch.float32:
            self._weighted.addmm_(shares, tile)
        else:
            self._weighted += shares.to(tile.dtype) @ tile

    def losses(self) -> torch.Tensor:
        """The loss of each row."""
        return self._top + self._mass.log() - self._aim

    def ranked_first(self) -> torch.Tensor:
        """Whether the target is the first of the largest logits."""
        return self._first & (self._aim >= self._top).squeeze(1)

    def gradient(self, matrix: torch.Tensor) -> torch.Tensor:
        """The gradient of each row's loss with respect to its states."""
        assert self._weighted is not None
        return self._weighted / self._mass - self._slope * matrix[self._targets.squeeze(1)]
