"""The estimated power of a campaign: it grows with voters; under five, none is given for other people."""

import pytest

from evals.ratings.planned_power import CampaignSize, campaign_power


@pytest.mark.long
def test_more_voters_find_more() -> None:
    few, many = (campaign_power(CampaignSize(voters, 40)) for voters in (5, 20))
    assert few.people_like_them is not None
    assert many.people_like_them is not None
    assert 0.2 < few.people_like_them.better[0.6] < 0.4 < 0.75 < many.people_like_them.better[0.6]
    assert few.people_like_them.at_least_as_good[0.05] < few.people_like_them.at_least_as_good[0.1]
    assert many.people_like_them.better_anytime[0.65] < many.people_like_them.better[0.65]
    # Peeking never decides with five voters: the power of zero is reported, not hidden.
    assert set(few.people_like_them.better_anytime.values()) == {0.0}
    assert "detects neither with so few voters" in few.text


def test_few_voters_never_speak_for_others() -> None:
    power = campaign_power(CampaignSize(3, 40))
    assert (power.people_like_them, power.voters_missing) == (None, 2)
    assert power.these_people.better[0.65] > 0.5
    assert "To speak for other people, it takes at least 5 voters: 2 more." in power.text


def test_too_few_votes_find_nothing() -> None:
    power = campaign_power(CampaignSize(8, 10))
    assert power.people_like_them is not None
    assert {*power.people_like_them.better.values(), *power.these_people.better.values()} == {0.0}
    assert "too few" in power.text


@pytest.mark.long
def test_the_same_size_gives_the_same_power() -> None:
    size = CampaignSize(8, 40, votes_each=20)
    first, second = campaign_power(size), campaign_power(size)
    assert first.to_json() == second.to_json()
    assert first.votes == 160
    assert first.people_like_them is not None
    whole = campaign_power(CampaignSize(8, 40)).people_like_them
    assert whole is not None
    assert first.people_like_them.better[0.6] < whole.better[0.6] + 0.01
    assert first.these_people.better[0.6] == pytest.approx(second.these_people.better[0.6])
