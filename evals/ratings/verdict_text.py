"""A verdict in plain sentences, for readers without statistics. Wording only."""

from evals.ratings.verdict_states import MIN_PROMPTS, MIN_VOTES, UNDECIDED
from evals.ratings.verdict_types import MAX_FORECAST, Verdict
from models.quantities import count_noun

_NAMED = 3  # more decisive voters are counted instead


def verdict_text(verdict: Verdict) -> str:
    """What the votes show, for whom, and what would change the result."""
    a, b = verdict.model_a, verdict.model_b
    least = f"A verdict needs {MIN_VOTES} votes on {MIN_PROMPTS} prompts"
    if verdict.win_rate is None:
        more = f"; about {verdict.votes_needed} votes can show whether one of them wins 60 % of the time"
        return f"Nobody has compared {a} with {b}{_yet(verdict)}. {least}{more if verdict.votes_needed else ''}."
    if verdict.votes < MIN_VOTES or verdict.prompts < MIN_PROMPTS:
        parts = [f"Not enough evidence{_yet(verdict)}: {_counts(verdict)}. {least}."]
    else:
        parts = [_state(verdict), _numbers(verdict), _scope(verdict), _outlook(verdict)]
    return " ".join(part for part in [*parts, _planned(verdict), _decisive(verdict), _unknown(verdict)] if part)


def _state(verdict: Verdict) -> str:
    a, b, points = verdict.model_a, verdict.model_b, f"{100 * verdict.margin:g} points"
    who = "" if verdict.people_like_them else f"For {_people(verdict)}, "
    small = f", but not by more than {points} from an even split" if verdict.headline.within_margin else ""
    match verdict.headline.state:
        case "better":
            sentence = f"{a} is better than {b}{small}."
        case "worse":
            sentence = f"{a} is worse than {b}{small}."
        case "no difference worth having":
            sentence = f"there is no meaningful difference between {a} and {b}: less than {points} from an even split."
        case "at least as good":
            sentence = f"{a} is at least as good as {b}, within a margin of {points}."
        case _:
            enough = f"{'there is ' if who else ''}not enough evidence{_yet(verdict)}"
            sentence = f"{enough} to say whether {a} or {b} is better."
    if who or verdict.headline.state in ("better", "worse", "at least as good"):
        return who + sentence
    return sentence[0].upper() + sentence[1:]


def _numbers(verdict: Verdict) -> str:
    who = "This person" if verdict.voters == 1 else "On average, a voter"
    rate = f"{who} prefers {verdict.model_a} on {verdict.win_rate or 0:.0%} of the prompts"
    interval = f"95 % interval {verdict.low:.0%} to {verdict.high:.0%}"
    prompts = count_noun(verdict.prompts, "prompt")
    votes = f"{count_noun(verdict.votes, 'vote')} of {_people(verdict, these=False)} on {prompts}"
    return f"{rate}, a tie counted as half ({interval}; {votes})."


def _scope(verdict: Verdict) -> str:
    if verdict.people_like_them:
        return f"This is about people like the {verdict.voters} voters, on prompts like these."
    more = "1 more voter is" if verdict.voters_missing == 1 else f"{verdict.voters_missing} more voters are"
    others = f"There is not enough evidence about other people: at least {more} needed to speak for them."
    return f"This is about {_people(verdict)} only. {others}"


def _outlook(verdict: Verdict) -> str:
    if verdict.undone_by_drop is not None and verdict.undone_by_change is not None:
        drop, change = count_noun(verdict.undone_by_drop, "vote"), count_noun(verdict.undone_by_change, "vote")
        return f"Removing {drop}, or reversing {change}, would change this result."
    if verdict.headline.state != UNDECIDED or verdict.look == "planned":
        return ""
    if verdict.votes_needed >= MAX_FORECAST / 2:
        return "If the trend continues, no realistic number of votes will decide this."
    some = "one more vote is" if verdict.votes_needed == 1 else f"about {verdict.votes_needed:,} more votes are"
    if not verdict.people_like_them:
        return f"If the trend continues, {some} needed from {_people(verdict)} to decide it for them."
    by = f" from {count_noun(verdict.voters_needed, 'more voter')}" if verdict.voters_needed else ""
    return f"If the trend continues, {some} needed{by}."


def _planned(verdict: Verdict) -> str:
    if verdict.planned_votes is None or verdict.votes >= verdict.planned_votes:
        return ""
    was = "was" if verdict.votes == 1 else "were"
    return f"Only {verdict.votes:,} of {verdict.planned_votes:,} planned votes {was} cast."


def _decisive(verdict: Verdict) -> str:
    frequent = [voter for voter in verdict.decisive_voters if voter.share >= 0.5]
    sentences = [f"{voter.voter} cast {voter.share:.0%} of the votes." for voter in frequent]
    if len(frequent) > 1:
        sentences = [f"{' and '.join(voter.voter for voter in frequent)} each cast half of the votes."]
    turning = [voter for voter in verdict.decisive_voters if voter.turns]
    if len(turning) > _NAMED:
        sentences.append(
            f"The result depends on single voters: it would change without any one of {len(turning)} of them."
        )
    sentences += [
        f"Without {voter.voter}, the result would be: {voter.without}." for voter in turning if len(turning) <= _NAMED
    ]
    return " ".join(sentences)


def _unknown(verdict: Verdict) -> str:
    if not verdict.unknown_voters:
        return ""
    return f"{count_noun(verdict.unknown_voters, 'vote')} without a voter's name count as one person's.".replace(
        "1 vote without a voter's name count", "1 vote without a voter's name counts"
    )


def _counts(verdict: Verdict) -> str:
    won = f"{verdict.model_a} won {verdict.wins}, {verdict.model_b} {verdict.losses}, {verdict.ties} tied"
    so_far = " so far" if _yet(verdict) else ""
    return f"{count_noun(verdict.votes, 'vote')} on {count_noun(verdict.prompts, 'prompt')}{so_far} ({won})"


def _yet(verdict: Verdict) -> str:
    """ " yet", or nothing for a closed campaign, which gets no more votes."""
    return " yet" if verdict.look == "anytime" else ""


def _people(verdict: Verdict, these: bool = True) -> str:
    if verdict.voters == 1:
        return "this one person" if these else "1 person"
    return f"these {verdict.voters} people" if these else f"{verdict.voters} people"
