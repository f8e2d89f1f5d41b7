"""The pair of answers that a rater sees next, chosen within one transaction. No model is asked.

An earlier pair is shown again, or a gold pair, with the campaign's shares; otherwise two models are drawn, and their
prompt that was shown least, is new to the voter, is not set aside and still wants votes.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evals.campaign_tables import CampaignPairRow, CampaignPromptRow, CampaignRow, GoldPairRow
from evals.campaigns.answers import stored_answers
from evals.campaigns.leaks import campaign_names, hide_names
from evals.campaigns.matches import RESERVED, Cell, Match, Showing, Wish, new_pair, voter_history
from evals.campaigns.pair_sampling import Drawn, ModelPair, PairCount, draw_models
from evals.campaigns.set_aside import FOREVER, Place, Resting, resting_places, set_aside_in
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.prompts import Prompt, as_prompt, set_prompt_ids
from models.database import utcnow
from models.errors import Conflict, Invalid, NotFound, Unavailable
from models.spec import is_recorded_name

_MIN_BATTLES_BETWEEN = 10  # between two showings of a pair to one voter


class PairSelector:
    """Chooses the next pair for one voter; made for one transaction."""

    def __init__(
        self, session: Session, campaign: CampaignRow, wish: Wish, chance: random.Random, excluded: set[Place]
    ) -> None:
        self._session = session
        self._campaign = campaign
        self._wish = wish
        self._chance = chance
        self._excluded = excluded  # left out for this call only; the caller passes it to every try
        self._resting: Resting = resting_places(session, campaign.name)
        self._resting.places |= excluded
        self._blocked = False
        self.history: Sequence[Showing] = voter_history(session, campaign.name, wish.voter)

    @property
    def known_failures(self) -> set[Place]:
        """Places that failed before; what works again is cleared."""
        return self._resting.known

    def match(self) -> Match:
        """The next pair.

        Raises:
            Invalid: fewer than two models.
            NotFound: there are no prompts.
            Conflict: the voter has voted enough (code "finished"), or nothing is left for them (code "nothing_left").
            Unavailable: everything that is left is set aside or not ready.
        """
        models = sorted(self._campaign.models)
        if self._wish.typed is not None:
            models = [model for model in models if not is_recorded_name(model)]
        if len(models) < 2:
            raise Invalid("A blind comparison needs two models that are ready.", param="models")
        self.check_own_votes()
        pairs = [pair for pair in combinations(models, 2) if not self._resting.has_models(pair)]
        self._blocked = len(pairs) < len(models) * (len(models) - 1) // 2
        if self._wish.typed is not None:
            return self._typed(models, pairs, self._wish.typed)
        if self._chance.random() < self._wish.repeat_share and (again := self._repeat(models)):
            return again
        if self._campaign.gold_share and self._chance.random() < self._campaign.gold_share and (gold := self._gold()):
            return gold
        return self._new(models, pairs)

    def check_own_votes(self) -> None:
        """Checks that the voter is asked for more votes.

        Raises:
            Conflict: they have voted enough (code "finished").
        """
        wanted = self._campaign.votes_per_person
        since = utcnow() - RESERVED
        mine = sum(one.voted or (not one.skipped and one.created > since) for one in self.history)
        if wanted is not None and mine >= wanted:
            raise Conflict("You have cast all the votes that you were asked for. Thank you.", code="finished")

    def still_wanted(self, match: Match) -> bool:
        """Whether a pair still wants votes, after its models were asked."""
        limit = self._campaign.votes_per_pair
        if limit is None:
            return True
        query = select(CampaignPairRow.pair_id).where(
            CampaignPairRow.campaign == self._campaign.name,
            CampaignPairRow.model_1 == match.models[0],
            CampaignPairRow.model_2 == match.models[1],
            CampaignPairRow.prompt_id == match.prompt.id,
        )
        return self._votes_to_come([pair_id for pair_id in self._session.scalars(query) if pair_id]) < limit

    def _typed(self, models: Sequence[str], pairs: list[ModelPair], prompt: Prompt) -> Match:
        pairs = [pair for pair in pairs if self._can_ask(pair)]
        if not pairs:
            raise self._unavailable()
        drawn = draw_models(models, pairs, self._counts(), self._chance)
        return Match(drawn.models, prompt, answers={}, probability=drawn.probability, fresh=True)

    def _repeat(self, models: Sequence[str]) -> Match | None:
        """A pair that this voter voted on at least 10 battles ago and was not shown again."""
        repeated = {one.pair_id for one in self.history if one.again}
        early = self.history[: max(0, len(self.history) - _MIN_BATTLES_BETWEEN)]
        old = sorted({one.pair_id for one in early if one.voted and not one.gold} - repeated)
        self._chance.shuffle(old)
        for pair_id in old:
            pair = self._session.get_one(PairRow, pair_id)
            if {pair.model_1, pair.model_2} <= set(models) and pair.answer_1 and pair.answer_2:
                return Match((pair.model_1, pair.model_2), self._prompt(pair.prompt_id), pair=pair, again=True)
        return None

    def _gold(self) -> Match | None:
        """A gold pair that this voter has not seen."""
        seen = [one.pair_id for one in self.history if one.gold]
        query = select(GoldPairRow.pair_id).where(
            GoldPairRow.campaign == self._campaign.name, GoldPairRow.pair_id.not_in(seen)
        )
        unseen = sorted(self._session.scalars(query))
        if not unseen:
            return None
        pair = self._session.get_one(PairRow, self._chance.choice(unseen))
        return Match((pair.model_1, pair.model_2), self._prompt(pair.prompt_id), pair=pair, gold=True)

    def _new(self, models: Sequence[str], pairs: list[ModelPair]) -> Match:
        prompt_ids = self._prompt_ids()
        if not prompt_ids:
            raise NotFound("There are no prompts yet. Type a question of your own.")
        among = set(prompt_ids)
        seen: dict[ModelPair, set[str]] = defaultdict(set)
        for one in self.history:
            if one.prompt_id in among:
                seen[one.models].add(one.prompt_id)
        counts = self._counts()
        left = [pair for pair in pairs if len(seen[pair]) < len(prompt_ids)]
        while left:
            drawn = draw_models(models, left, counts, self._chance)
            cell = self._cell(drawn.models, prompt_ids, seen[drawn.models])
            if cell is None:
                left.remove(drawn.models)
                continue
            if match := self._answered(drawn, cell):
                return match
            if self._resting.has_models(drawn.models):
                left.remove(drawn.models)
        return self._fresh(models, pairs, prompt_ids, counts)

    def _fresh(
        self,
        models: Sequence[str],
        pairs: list[ModelPair],
        prompt_ids: list[str],
        counts: Mapping[ModelPair, PairCount],
    ) -> Match:
        """New answers to the least shown prompt, for a voter of an open-ended campaign who has seen every pair."""
        if not self._campaign.open_ended:
            if self._blocked:
                raise self._unavailable()
            raise Conflict("There is nothing left for you to vote on. Thank you.", code="nothing_left")
        pairs = [pair for pair in pairs if self._can_ask(pair) and not any(map(is_recorded_name, pair))]
        if not pairs:
            raise self._unavailable()
        drawn = draw_models(models, pairs, counts, self._chance)
        cell = self._cell(drawn.models, prompt_ids, set())
        if cell is None:
            raise self._unavailable()
        return Match(drawn.models, self._prompt(cell.prompt_id), answers={}, probability=drawn.probability, fresh=True)

    def _cell(self, models: ModelPair, prompt_ids: Sequence[str], seen: set[str]) -> Cell | None:
        """The least shown prompt that is free, and its least shown sample; None without one."""
        query = select(CampaignPairRow).where(
            CampaignPairRow.campaign == self._campaign.name,
            CampaignPairRow.model_1 == models[0],
            CampaignPairRow.model_2 == models[1],
        )
        columns = query.with_only_columns(
            CampaignPairRow.prompt_id, CampaignPairRow.sample, CampaignPairRow.pair_id, CampaignPairRow.shown,
            CampaignPairRow.voted,
        )  # fmt: skip
        samples: dict[str, dict[int, tuple[str | None, int]]] = defaultdict(dict)
        shown: dict[str, int] = defaultdict(int)
        voted: dict[str, int] = defaultdict(int)
        for prompt_id, sample, pair_id, times, votes in self._session.execute(columns):
            samples[prompt_id][sample] = (pair_id, times)
            shown[prompt_id] += times
            voted[prompt_id] += votes
        limit = self._campaign.votes_per_pair
        free = [
            prompt_id
            for prompt_id in prompt_ids
            if prompt_id not in seen and (limit is None or voted[prompt_id] < limit)
        ]
        blocked = {prompt_id for prompt_id in free if self._resting.has_prompt(models, prompt_id)}
        self._blocked |= any(self._resting.returns(models, prompt_id) for prompt_id in blocked)
        unblocked = [prompt_id for prompt_id in free if prompt_id not in blocked]
        self._chance.shuffle(unblocked)
        for prompt_id in sorted(unblocked, key=lambda each: shown[each]):
            of_prompt = samples[prompt_id]
            pair_ids = [pair_id for pair_id, _ in of_prompt.values() if pair_id]
            if limit is not None and shown[prompt_id] >= limit and self._votes_to_come(pair_ids) >= limit:
                continue
            order = sorted(range(self._campaign.samples), key=lambda each: of_prompt.get(each, (None, 0))[1])
            sample = order[0]
            return Cell(prompt_id, sample, of_prompt.get(sample, (None, 0))[0])
        return None

    def _votes_to_come(self, pair_ids: Sequence[str]) -> int:
        """Votes on these pairs, including pending ones."""
        query = (
            select(func.count())
            .select_from(BattleRow)
            .outerjoin(VoteRow, VoteRow.battle_id == BattleRow.id)
            .where(
                BattleRow.pair_id.in_(pair_ids),
                BattleRow.campaign == self._campaign.name,
                BattleRow.again.is_(False),
                BattleRow.skip_reason.is_(None),
                VoteRow.battle_id.is_not(None) | (BattleRow.created > utcnow() - RESERVED),
            )
        )
        return self._session.scalar(query) or 0

    def _answered(self, drawn: Drawn, cell: Cell) -> Match | None:
        """The match with its stored answers, or with models to ask; None if it cannot be shown now."""
        models, prompt = drawn.models, self._prompt(cell.prompt_id)
        pair = self._session.get(PairRow, cell.pair_id) if cell.pair_id else None
        if pair is None and self._campaign.open_ended:
            pair = self._any_stored_pair(models, prompt.id)
        answers: Mapping[str, str] = {}
        if pair is None:
            answers = stored_answers(self._session, self._campaign, prompt, models, cell.sample)
            if len(answers) == 2:
                pair = new_pair(prompt, models, answers)
        if pair is not None:
            if self._campaign.on_leak == "set_aside" and self.set_aside_leak(pair):
                return None
            return Match(models, prompt, cell.sample, pair, probability=drawn.probability)
        missing = [model for model in models if model not in answers]
        for model in missing:
            if model in self._campaign.recordings:
                place = Place(model, "", prompt.id)
                set_aside_in(self._session, self._campaign.name, place, "nothing is recorded", pause=FOREVER)
                self._exclude(place, for_good=True)
                return None
        if not self._can_ask(missing):
            self._exclude(Place(*models))
            return None
        return Match(models, prompt, cell.sample, answers=answers, probability=drawn.probability)

    def set_aside_leak(self, pair: PairRow) -> bool:
        """Sets a pair aside permanently if one of its answers names a model; returns whether it did."""
        names = campaign_names(self._session, self._campaign.models)
        leaks = [hide_names(text, names).leaks for text in (pair.answer_1, pair.answer_2)]
        if not any(leaks):
            return False
        who = " and ".join(model for model, n in zip((pair.model_1, pair.model_2), leaks, strict=True) if n)
        place = Place(pair.model_1, pair.model_2, pair.prompt_id)
        set_aside_in(self._session, self._campaign.name, place, f"the answer of {who} names a model", pause=FOREVER)
        self._exclude(place, for_good=True)
        return True

    def _exclude(self, place: Place, *, for_good: bool = False) -> None:
        self._excluded.add(place)
        self._resting.places.add(place)
        if for_good:
            self._resting.for_good.add(place)
        else:
            self._blocked = True

    def _can_ask(self, models: Sequence[str]) -> bool:
        return self._wish.ready is None or all(model in self._wish.ready for model in models)

    def _any_stored_pair(self, models: ModelPair, prompt_id: str) -> PairRow | None:
        query = (
            select(PairRow)
            .where(PairRow.model_1 == models[0], PairRow.model_2 == models[1], PairRow.prompt_id == prompt_id)
            .where(PairRow.answer_1 != "", PairRow.answer_2 != "")
        )  # an imported vote may have no answers
        stored = list(self._session.scalars(query.order_by(PairRow.id)))
        return self._chance.choice(stored) if stored else None

    def _counts(self) -> dict[ModelPair, PairCount]:
        table = CampaignPairRow
        query = (
            select(table.model_1, table.model_2, func.sum(table.shown), func.sum(table.voted), func.sum(table.points))
            .where(table.campaign == self._campaign.name)
            .group_by(table.model_1, table.model_2)
        )
        return {
            (first, second): PairCount(int(shown), int(voted), float(points))
            for first, second, shown, voted, points in self._session.execute(query)
        }

    def _prompt_ids(self) -> list[str]:
        if self._campaign.open_ended:
            return set_prompt_ids(self._session)
        query = select(CampaignPromptRow.prompt_id).where(CampaignPromptRow.campaign == self._campaign.name)
        return list(self._session.scalars(query))

    def _prompt(self, prompt_id: str) -> Prompt:
        return as_prompt(self._session.get_one(PromptRow, prompt_id))

    def _unavailable(self) -> Unavailable:
        until = self._resting.until
        wait = max(1.0, (until - utcnow()).total_seconds()) if until is not None else 5.0
        return Unavailable(
            "The answers are not available. Try again in a moment.", code="set_aside", retry_after=min(wait, 60.0)
        )
