"""Rating two million votes over 200 models: seconds, compared with arena-rank and evalica, and their agreement.

arena-rank is no dependency of Parley: run `pip install --no-deps --target DIR -r requirements/bench.txt`, then the
benchmark with `PYTHONPATH=DIR`. Without it, its keys are null and `arena_rank` says why.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.ratings.bradley_terry import ELO, MEAN, Rating, rate
from evals.votes.votes import Votes, from_columns

if TYPE_CHECKING:
    from pandas import DataFrame

_WINNERS = np.array(["model_b", "tie", "model_a"], dtype=object)


def simulate_votes(votes: int = 2_000_000, models: int = 200, prompts: int = 5_000, seed: int = 1) -> Votes:
    """Simulates votes as integer codes, a fifth of them ties."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, models, votes)
    second = (first + rng.integers(1, models, votes)) % models
    strength = rng.normal(0, 0.5, models)
    won = rng.random(votes) < 1 / (1 + np.exp(strength[second] - strength[first]))
    score = np.where(rng.random(votes) < 0.2, 0.5, won.astype(float))
    names = tuple(f"model-{i:03}" for i in range(models))
    return Votes(names, first, second, score, rng.integers(0, prompts, votes), rng.integers(0, 1_000, votes))


def to_frame(votes: Votes) -> "DataFrame":
    """The votes as a log has them: two columns of model names and one of the winner, all strings."""
    import pandas as pd

    names = np.array(votes.models, dtype=object)
    winner = _WINNERS[(votes.score * 2).astype(int)]
    return pd.DataFrame({"model_a": names[votes.first], "model_b": names[votes.second], "winner": winner})


def timed(votes: int = 2_000_000, models: int = 200, repeats: int = 3) -> dict[str, float]:
    """The best seconds of several runs: from codes without and with clusters, and from strings to intervals."""
    data = simulate_votes(votes, models)
    frame = to_frame(data)
    return {
        "seconds_2m_codes": _best(lambda: rate(data, cluster=None), repeats),
        "seconds_2m_clustered": _best(lambda: rate(data, cluster="prompt"), repeats),
        "seconds_2m_strings": _best(lambda: rate(from_strings(frame, data), cluster=None), repeats),
    }


def from_strings(frame: "DataFrame", data: Votes) -> Votes:
    """Votes from columns of strings; prompts and voters stay codes."""
    codes, names = frame["winner"].factorize()
    score = np.array([{"model_a": 1.0, "model_b": 0.0}.get(name, 0.5) for name in names])[codes]
    return from_columns(frame["model_a"], frame["model_b"], score, data.prompt, data.voter)


def compared(votes: int = 2_000_000, models: int = 200, repeats: int = 2) -> dict[str, Any]:
    """Rates the same votes with arena-rank (from strings, with intervals) and evalica (scores only).

    Differences are the largest over all models: scores in Elo, unclustered intervals relative to their width.
    """
    data = simulate_votes(votes, models)
    frame = to_frame(data)
    ours = rate(data, cluster=None)
    parley_seconds = _best(lambda: rate(from_strings(frame, data), cluster=None), repeats + 1)
    return _evalica(data, ours, frame) | _arena_rank(ours, frame, parley_seconds, repeats)


def _evalica(data: Votes, ours: Rating, frame: "DataFrame") -> dict[str, Any]:
    import evalica

    winners = [evalica.Winner.Y, evalica.Winner.Draw, evalica.Winner.X]
    first, second = frame["model_a"].tolist(), frame["model_b"].tolist()
    outcomes = [winners[code] for code in (data.score * 2).astype(int)]
    began = time.perf_counter()
    scores = evalica.bradley_terry(first, second, outcomes, tolerance=1e-12, limit=10_000).scores
    seconds = time.perf_counter() - began
    strength = np.log(scores.reindex(list(ours.models)).to_numpy())
    elo = MEAN + ELO * (strength - strength.mean())
    return {"seconds_2m_evalica": seconds, "elo_from_evalica": float(np.abs(elo - ours.rating).max())}


def _arena_rank(ours: Rating, frame: "DataFrame", parley_seconds: float, repeats: int) -> dict[str, Any]:
    try:
        from arena_rank.models.bradley_terry import BradleyTerry  # pyrefly: ignore[missing-import] -- not a dependency of Parley
        from arena_rank.utils.data_utils import PairDataset  # pyrefly: ignore[missing-import] -- as above
    except ImportError as error:
        missing = dict.fromkeys(
            ("seconds_2m_arena_rank", "times_faster_than_arena_rank", "elo_from_arena_rank", "interval_from_arena_rank")
        )
        return {**missing, "arena_rank": f"not installed here ({error})"}

    def run_arena_rank() -> dict[str, Any]:
        dataset = PairDataset.from_pandas(frame)
        result = BradleyTerry(n_competitors=len(ours.models)).compute_ratings_and_cis(dataset)
        return {key: np.asarray(value) for key, value in result.items()}  # waits for asynchronous computation

    seconds = _best(run_arena_rank, repeats + 1)  # the first one compiles
    result = run_arena_rank()
    order = [list(result["competitors"]).index(model) for model in ours.models]
    elo, low, high = (result[key][order] for key in ("ratings", "rating_lower", "rating_upper"))
    width = (high - low) / (ours.high - ours.low)
    return {
        "seconds_2m_arena_rank": seconds,
        "times_faster_than_arena_rank": seconds / parley_seconds,
        "elo_from_arena_rank": float(np.abs(elo - elo.mean() + MEAN - ours.rating).max()),
        "interval_from_arena_rank": float(np.abs(width - 1).max()),
        "arena_rank": "0.1.1",
    }


def _best(run: Callable[[], Any], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best
