"""A process that votes: it reads battles and voters from standard input, and prints each vote that was acknowledged.

A line of input is a battle's id and its voter, a line of output the battle's id.
"""

import sys

from evals import cast_vote
from models.database import open_database
from models.settings.settings import load_settings


def main() -> None:
    """Casts a vote for the left answer of each battle."""
    database = open_database(load_settings())
    for line in sys.stdin:
        battle_id, voter = line.split()
        cast_vote(database, battle_id, voter, "left")
        print(battle_id, flush=True)


if __name__ == "__main__":
    main()
