"""A verdict in plain sentences, for readers without statistics. Wording only."""

from evals.ratings.verdict_states import MIN_PROMPTS, MIN_VOTES, UNDECIDED
from evals.ratings.verdict_types import MAX_FORECAST, Verdict

_NAMED = 3  # more decisive voters are counted instead


def verdict_text(found: Verdict) -> str:
    """What the votes show, for whom, and what would change the result."""
    a, b = found.model_a, found.model_b
    least = f"A verdict needs {MIN_VOTES} votes on {MIN_PROMPTS} prompts"
    if found.win_rate is None:
        more = f"; about {found.votes_needed} can show whether one of them wins 60 % of the time"
        return f"Nobody has compared {a} with {b}{_yet(found)}. {least}{more if found.votes_needed else ''}."
    if found.votes < MIN_VOTES or found.prompts < MIN_PROMPTS:
        parts = [f"Not enough evidence{_yet(found)}: {_counts(found)}. {least}."]
    else:
        parts = [_state(found), _numbers(found), _scope(found), _outlook(found)]
    return " ".join(part for part in [*parts, _planned(found), _decisive(found), _unknown(found)] if part)


def _state(found: Verdict) -> str:
    a, b, points = found.model_a, found.model_b, f"{100 * found.margin:g} points"
    who = "" if found.people_like_them else f"For {_people(found)}, "
    small = f", but not by more than {points} from an even split" if found.headline.within_margin else ""
    match found.headline.state:
        case "better":
            sentence = f"{a} is better than {b}{small}."
        case "worse":
            sentence = f"{a} is worse than {b}{small}."
        case "no difference worth having":
            sentence = f"there is no meaningful difference between {a} and {b}: less than {points} from an even split."
        case "at least as good":
            sentence = f"{a} is at least as good as {b}, within a margin of {points}."
        case _:
            enough = f"{'there is ' if who else ''}not enough evidence{_yet(found)}"
            sentence = f"{enough} to say whether {a} or {b} is better."
    if who or found.headline.state in ("better", "worse", "at least as good"):
        return who + sentence
    return sentence[0].upper() + sentence[1:]


def _numbers(found: Verdict) -> str:
    who = "This person" if found.voters == 1 else "On average, a voter"
    rate = f"{who} prefers {found.model_a} on {found.win_rate or 0:.0%} of the prompts"
    interval = f"95 % interval {found.low:.0%} to {found.high:.0%}"
    votes = f"{_count(found.votes, 'vote')} of {_people(found, these=False)} on {found.prompts} prompts"
    return f"{rate}, a tie counted as half ({interval}; {votes})."


def _scope(found: Verdict) -> str:
    if found.people_like_them:
        return f"This is about people like the {found.voters} voters, on prompts like these."
    more = "1 more voter is" if found.voters_missing == 1 else f"{found.voters_missing} more voters are"
    others = f"There is not enough evidence about other people: at least {more} needed to speak for them."
    return f"This is about {_people(found)} only. {others}"


def _outlook(found: Verdict) -> str:
    if found.undone_by_drop is not None and found.undone_by_change is not None:
        drop, change = _count(found.undone_by_drop, "vote"), _count(found.undone_by_change, "vote")
        return f"Removing {drop}, or reversing {change}, would change this result."
    if found.headline.state != UNDECIDED or found.look == "planned":
        return ""
    if found.votes_needed >= MAX_FORECAST / 2:
        return "If the trend continues, no realistic number of votes will decide this."
    some = "one more vote is" if found.votes_needed == 1 else f"about {found.votes_needed:,} more votes are"
    if not found.people_like_them:
        return f"If the trend continues, {some} needed from {_people(found)} to decide it for them."
    by = f" from {_count(found.voters_needed, 'more voter')}" if found.voters_needed else ""
    return f"If the trend continues, {some} needed{by}."


def _planned(found: Verdict) -> str:
    if found.planned_votes is None or found.votes >= found.planned_votes:
        return ""
    was = "was" if found.votes == 1 else "were"
    return f"Only {found.votes:,} of {found.planned_votes:,} planned votes {was} cast."


def _decisive(found: Verdict) -> str:
    frequent = [voter for voter in found.decisive_voters if voter.share >= 0.5]
    sentences = [f"{voter.voter} cast {voter.share:.0%} of the votes." for voter in frequent]
    if len(frequent) > 1:
        sentences = [f"{' and '.join(voter.voter for voter in frequent)} each cast half of the votes."]
    turning = [voter for voter in found.decisive_voters if voter.turns]
    if len(turning) > _NAMED:
        sentences.append(
            f"The result depends on single voters: it would change without any one of {len(turning)} of them."
        )
    sentences += [
        f"Without {voter.voter}, the result would be: {voter.without}." for voter in turning if len(turning) <= _NAMED
    ]
    return " ".join(sentences)


def _unknown(found: Verdict) -> str:
    if not found.unknown_voters:
        return ""
    return f"{_count(found.unknown_voters, 'vote')} without a voter's name count as one person's.".replace(
        "1 vote without a voter's name count", "1 vote without a voter's name counts"
    )


def _counts(found: Verdict) -> str:
    won = f"{found.model_a} won {found.wins}, {found.model_b} {found.losses}, {found.ties} tied"
    return (
        f"{_count(found.votes, 'vote')} on {_count(found.prompts, 'prompt')}{' so far' if _yet(found) else ''} ({won})"
    )


def _yet(found: Verdict) -> str:
    """Nothing for the planned look of a closed campaign, which gets no more votes."""
    return " yet" if found.look == "anytime" else ""


def _people(found: Verdict, these: bool = True) -> str:
    if found.voters == 1:
        return "this one person" if these else "1 person"
    return f"these {found.voters} people" if these else f"{found.voters} people"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
