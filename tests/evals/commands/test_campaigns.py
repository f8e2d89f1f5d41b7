"""`parley campaign` from a draft to a verified export; links, people, models; one-line errors."""

import json
from pathlib import Path

import pytest

from evals.campaigns.ballots import cast_vote
from evals.campaigns.campaign_prompts import campaign_prompts
from evals.campaigns.invites import invite_of
from evals.campaigns.lifecycle import load_campaign
from evals.campaigns.raters import join_by_invite
from evals.commands.campaign_people import qr_text
from evals.votes.prompts import add_prompts
from models.chat.messages import last_question
from models.database import Database
from models.home.page_secret import page_secret
from tests.evals.campaigns.campaigns import MODELS, battle, register
from tests.evals.commands.test_ratings import parley

__all__ = ["parley"]  # a fixture
QUESTION = "Which answer would you send?"


@pytest.fixture
def created(parley, database: Database, tmp_path: Path):
    """The campaign "spring" over two models and 20 prompts; returns the command."""
    register(database, *MODELS[:2])
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Where is order {i}?"}) + "\n" for i in range(20)))
    code, output, error = parley(
        "campaign", "create", "spring", "--models", ",".join(MODELS[:2]), "--prompts", str(file),
        "--question", QUESTION, "--criteria", "tone,accuracy", "--votes-per-pair", "2", "--reveal", "never",
    )  # fmt: skip
    assert code == 0, error
    assert "20 prompts" in output
    return parley


@pytest.mark.long
def test_from_a_draft_to_a_checked_export(created, database: Database, home: Path, tmp_path: Path) -> None:
    parley = created
    shown = json.loads(parley("campaign", "show", "spring", "--json")[1])
    assert (shown["campaign"]["state"], shown["campaign"]["criteria"]) == ("draft", ["tone", "accuracy"])
    assert shown["campaign"]["gold_share"] == 0.05
    assert "2 voters" in parley("campaign", "plan", "spring", "--voters", "2")[1]
    assert json.loads(parley("campaign", "plan", "spring", "--voters", "8", "--json")[1])["size"]["prompts"] == 20
    assert "is open" in parley("campaign", "open", "spring")[1]
    link = json.loads(parley("campaign", "invite", "spring", "Ann Smith", "--days", "3", "--json")[1])["link"]
    invite = invite_of(database, page_secret(home), link.rpartition("/")[2])
    voter = join_by_invite(database, invite).voter
    for _ in range(20):
        cast_vote(database, battle(database, voter, name="spring").id, voter, "left")
    output = parley("campaign", "show", "spring")[1]
    for words in ("20 of 40 votes of 1 people", "Ann Smith", "model-one: 20 of 20 answers prepared", "preparing"):
        assert words in output
    assert "still open" in parley("campaign", "report", "spring")[1]
    assert "is closed" in parley("campaign", "close", "spring")[1]
    report = json.loads(parley("campaign", "report", "spring", "--json")[1])
    assert (report["look"], report["votes"], len(report["criteria"])) == ("planned", 20, 2)
    assert json.loads(parley("campaign", "report", "spring", "--no-open-links", "--json")[1])["votes"] == 20
    bundle = tmp_path / "spring.zip"
    assert "20 votes written" in parley("campaign", "export", "spring", str(bundle))[1]
    assert "Nothing was changed" in parley("campaign", "check", str(bundle))[1]
    bundle.write_bytes(bundle.read_bytes()[:-40])
    code, _, error = parley("campaign", "check", str(bundle))
    assert code != 0
    assert "was changed" in error
    assert json.loads(parley("verdict", *MODELS[:2], "--campaign", "spring", "--json")[1])["votes"] == 20
    assert json.loads(parley("verdict", *MODELS[:2], "--json")[1])["votes"] == 0
    assert json.loads(parley("leaderboard", "--campaign", "spring", "--json")[1])["votes"] == 20
    assert "Ann Smith is forgotten" in parley("campaign", "forget", "Ann Smith")[1]
    assert json.loads(parley("campaign", "report", "spring", "--json")[1])["votes"] == 20


def test_gold_pairs_come_from_a_file(created, database: Database, tmp_path: Path) -> None:
    parley, file = created, tmp_path / "gold.jsonl"
    question = last_question(campaign_prompts(database, "spring")[0].messages)
    row = {"prompt": question, "better": "Within 3 days.", "worse": "Bananas."}
    file.write_text(json.dumps(row) + "\n")
    assert json.loads(parley("campaign", "gold", "spring", str(file), "--json")[1]) == {"added": 1, "gold_pairs": 1}
    for wrong, sentence in (
        ({**row, "prompt": "Unheard of?"}, "line 1: the campaign has no prompt 'Unheard of?'"),
        ({**row, "worse": row["better"]}, "line 1: both answers are the same"),
        ({**row, "worse": None}, "line 1: write"),
        ([], "line 1: write"),
    ):
        file.write_text(json.dumps(wrong))
        code, _, error = parley("campaign", "gold", "spring", str(file))
        assert (code, sentence in " ".join(error.split())) == (1, True), error
    file.write_text("\n")
    assert "has no gold pairs" in " ".join(parley("campaign", "gold", "spring", str(file))[2].split())
    file.write_text(json.dumps(row))
    assert "spring has 2" in parley("campaign", "gold", "spring", str(file))[1]


def test_links_are_printed_listed_and_revoked(created, database: Database) -> None:
    parley = created
    output = parley("campaign", "invite", "spring", "Support team", "--group", "--no-qr")[1]
    (link,) = [line for line in output.splitlines() if line.startswith("http")]
    (row,) = json.loads(parley("campaign", "invites", "spring", "--json")[1])
    assert (row["link"], row["is_group"], row["valid"]) == (link, True, True)
    assert "no longer works" in parley("campaign", "revoke", row["id"])[1]
    assert "revoked" in parley("campaign", "invites", "spring")[1]
    assert "Support team" not in link


def test_the_vote_page_gets_its_models_from_an_owner(parley, database: Database) -> None:
    register(database, *MODELS[:2])
    add_prompts(database, [{"prompt": "Why?"}], "test")
    assert "draft" in parley("campaign", "add-model", "open", "model-one")[1]
    assert "(open)" in parley("campaign", "add-model", "open", "model-two")[1]
    assert battle(database, name="open").id
    assert json.loads(parley("campaign", "remove-model", "open", "model-two", "--json")[1])["models"] == ["model-one"]
    assert "model-one" in parley("campaign", "list")[1]
    assert [each["name"] for each in json.loads(parley("campaign", "list", "--json")[1])] == ["open"]
    assert load_campaign(database, "open").state == "open"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nothing"], "no campaign 'nothing'"),
        (["open", "nothing"], "no campaign"),
        (["invite", "spring", "Ann", "--role", "king"], "The role must be one of"),
        (["create", "a", "--models", "model-one,model-two", "--question", "Q?"], "Name exactly one source of prompts"),
        (
            [
                "create",
                "a",
                "--models",
                "model-one,model-two",
                "--question",
                "Q?",
                "--stored",
                "all",
                "--opens",
                "soon",
            ],
            "--opens is 'soon'",
        ),
        (["create", "A!", "--models", "model-one,model-two", "--question", "Q?", "--stored", "all"], "is not a name"),
        (["add-model", "spring", "nobody"], "no model 'nobody'"),
        (["forget", "Nobody"], "No rater, invite or imported voter has the name"),
        (["revoke", "01NOTHING"], "no invite"),
        (["close", "spring"], "has not opened"),
        (["check", "nowhere.zip"], "There is no file"),
    ],
)
def test_a_mistake_is_one_line(created, arguments: list[str], words: str) -> None:
    code, output, error = created("campaign", *arguments)
    assert code != 0
    assert words in error
    assert "Traceback" not in output + error


def test_help_has_examples(parley) -> None:
    output = parley("campaign", "--help")[1]
    for command in ("create", "plan", "open", "close", "list", "show", "report", "invite", "forget", "export", "check"):
        assert command in output
    assert "parley campaign plan acceptance" in parley("campaign", "create", "--help")[1]


def test_a_link_is_drawn() -> None:
    assert "█" in qr_text("http://localhost:7860/vote/i/abc")
