"""How often the anytime state calls a difference, right or wrong, when it is read after every vote."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from evals.ratings.simulated_votes import World, logistic
from evals.ratings.verdict_states import E_STOP, MIN_PROMPTS, MIN_VOTES
from evals.ratings.voter_means import VoteSums, from_sums, log_evidence

Arrival = Literal["at random", "voter by voter"]


@dataclass(frozen=True)
class CallRates:
    """Shares of runs. `called`: "better" or "worse" for people in general at some reading up to the last vote.

    `wrong` is the part of them that is not true: any call if there is no difference. `own_wrong` is the share with a
    call for these people that their own true mean, of those who had voted by then, contradicts.
    """

    world: World
    arrival: Arrival
    votes: int
    runs: int
    called: float
    wrong: float
    own_wrong: float

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return asdict(self)


class _Runs:
    """The sums of many runs, kept up to date vote by vote."""

    def __init__(self, runs: int, voters: int, prompts: int) -> None:
        self._runs = np.arange(runs)
        self._score = np.zeros((runs, voters, prompts), np.float32)
        self._cast = np.zeros((runs, voters, prompts), np.float32)
        by_voter, by_prompt = (runs, voters), (runs, prompts)
        self.sums = VoteSums(*(np.zeros(by_voter) for _ in range(3)), *(np.zeros(by_prompt) for _ in range(3)))

    def add(self, voter: np.ndarray, prompt: np.ndarray, score: np.ndarray) -> None:
        """One more vote in every run; arrays are (runs,)."""
        at = (self._runs, voter)
        self._move(at, -1.0)
        self._score[self._runs, voter, prompt] = score
        self._cast[self._runs, voter, prompt] = 1
        self.sums.votes[at] += 1
        self.sums.points[at] += score
        self.sums.squares[at] += score**2
        self._move(at, 1.0)

    def _move(self, at: tuple[np.ndarray, np.ndarray], sign: float) -> None:
        """Adds a voter's part to the sums by prompt, or takes it away."""
        votes = self.sums.votes[at]
        weight = np.where(votes > 0, sign / np.maximum(votes, 1), 0.0)[:, None]
        own = (self.sums.points[at] / np.maximum(votes, 1))[:, None]
        stretch = weight * np.where(votes > 1, votes / np.maximum(votes - 1, 1), 0.0)[:, None]
        score, cast = self._score[at], self._cast[at]
        self.sums.weight[...] += weight * cast
        self.sums.score[...] += weight * score
        self.sums.centred[...] += stretch * (score - own * cast)


def call_rates(world: World, runs: int, votes: int, arrival: Arrival = "at random", seed: int = 0) -> CallRates:
    """Simulates votes one by one, and reads the state after each; a run's first call counts."""
    rng = np.random.default_rng(seed)
    order = _order(world, runs, arrival, rng)[:, :votes]
    voter = rng.normal(0, 1, (runs, world.voters)) * world.voter_sd
    prompt = rng.normal(0, 1, (runs, world.prompts)) * world.prompt_sd
    own, every = world.truth_of(voter), np.arange(runs)
    state = _Runs(runs, world.voters, world.prompts)
    calls, own_wrong = np.zeros(runs), np.zeros(runs, bool)
    own_called = np.zeros(runs, bool)
    for place in range(order.shape[1]):
        who, what = np.divmod(order[:, place], world.prompts)
        won = rng.random(runs) < logistic(world.edge + voter[every, who] + prompt[every, what])
        state.add(who, what, np.where(rng.random(runs) < world.ties, 0.5, won))
        if place + 1 < MIN_VOTES:
            continue
        estimate = from_sums(state.sums)
        ready, side = estimate.prompts >= MIN_PROMPTS, np.sign(estimate.mean - 0.5)
        called = ready & (log_evidence(estimate, "people like them") >= np.log(E_STOP))
        calls = np.where((calls == 0) & called, side, calls)
        called = ready & (log_evidence(estimate, "these people") >= np.log(E_STOP)) & ~own_called
        took_part = state.sums.votes > 0
        truth = (own * took_part).sum(1) / took_part.sum(1) - 0.5
        own_wrong |= called & (side * truth <= 1e-12)
        own_called |= called
    direction = np.sign(round(world.truth - 0.5, 9))
    return CallRates(
        world=world,
        arrival=arrival,
        votes=order.shape[1],
        runs=runs,
        called=float((calls != 0).mean()),
        wrong=float(((calls != 0) & (calls != direction)).mean()),
        own_wrong=float(own_wrong.mean()),
    )


def _order(world: World, runs: int, arrival: Arrival, rng: np.random.Generator) -> np.ndarray:
    """(runs, votes): voter · prompts + prompt, each once."""
    voters, prompts = world.voters, world.prompts
    if arrival == "voter by voter":
        each = rng.random((runs, voters, prompts), np.float32).argsort(2) + np.arange(voters)[:, None] * prompts
        return each.reshape(runs, -1)
    if world.sharing != "one has 60 %":
        return rng.random((runs, voters * prompts), np.float32).argsort(1)
    others = round(prompts / 1.5)
    first = rng.random((runs, prompts)).argsort(1)
    rest = rng.random((runs, (voters - 1) * prompts), np.float32).argsort(1)[:, :others] + prompts
    mixed = np.concatenate([first, rest], axis=1)
    return np.take_along_axis(mixed, rng.random(mixed.shape).argsort(1), 1)
