"""This room's routes on the gateway: the fine-tuning API and the data check. Light to import."""

from typing import TYPE_CHECKING

from models.database import Database
from models.settings import Settings

if TYPE_CHECKING:
    from starlette.routing import Route


def routes(settings: Settings, database: Database) -> "list[Route]":
    """The routes of `train`."""
    return []
