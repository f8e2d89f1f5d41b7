"""Battles of the open campaign in tests: it opens with the models that a test names."""

from collections.abc import Callable, Sequence

from evals.campaign_tables import CampaignRow
from evals.campaigns import battles
from evals.campaigns.battles import Battle, BattleOptions
from evals.campaigns.campaign import OPEN
from models.chat.messages import Completer
from models.database import Database, utcnow

_DEFAULT = BattleOptions()


def open_with(database: Database, models: Sequence[str]) -> None:
    """Opens the campaign `open` with these models, registered or not."""
    with database.write() as session:
        row = session.get_one(CampaignRow, OPEN)
        row.models, row.opened = sorted(set(models)), row.opened or utcnow()


async def next_battle(
    database: Database,
    voter: str,
    completer_for: Callable[[str], Completer],
    models: Sequence[str],
    options: BattleOptions = _DEFAULT,
) -> Battle:
    """The next battle between these models in the open campaign."""
    open_with(database, models)
    return await battles.next_battle(database, voter, completer_for, OPEN, options)
