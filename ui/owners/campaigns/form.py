"""The form of a new campaign, and the request made from it."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from evals.campaigns.campaign import Access, LeakPolicy, NewCampaign, PromptSource, RevealPolicy
from models.errors import Invalid
from models.files.stored_files import Files
from ui.look.number_field import NumberField

ACCESS = [("Only people I invite", "invited"), ("Anyone with the address", "open")]
REVEAL = [
    ("After the campaign closes", "at_end"),
    ("After each vote (no undo)", "after_vote"),
    ("Never", "never"),
]
ON_LEAK = [("Hide the name and show the pair", "mask"), ("Leave the pair out", "set_aside")]
MARGIN = NumberField("“At least as good” allows this many points below half of the wins", 1, 20)
GOLD_SHARE = NumberField("Percentage of gold pairs among the pairs shown, if you add some", 0, 30)
STORED_FILE = "file:"  # in front of the id of a stored file, as a source of questions
LANGUAGES = [("English", "en"), ("Deutsch", "de")]


@dataclass(frozen=True)
class CampaignForm:
    """The form's values when a campaign is created. A limit of 0 means no limit; `margin`, `gold_share`: in percent."""

    name: str
    models: list[str]
    source: str | None
    typed: str
    question: str
    title: str
    welcome: str
    thanks: str
    language: str
    criteria: str
    votes_per_pair: float | None
    votes_per_person: float | None
    margin: float | None
    gold_share: float | None
    access: str
    reveal: str
    on_leak: str


@contextmanager
def new_campaign(form: CampaignForm, files: Files) -> Iterator[NewCampaign]:
    """The request that the form makes; typed questions are in a file while the block runs.

    Raises:
        Invalid: something in the form is wrong. NotFound: the chosen file is no longer stored.
    """
    with tempfile.TemporaryDirectory() as folder:
        lines = [line.strip() for line in (form.typed or "").splitlines() if line.strip()]
        path = Path(folder) / "questions.jsonl"
        if lines:
            path.write_text("".join(json.dumps({"prompt": line}) + "\n" for line in lines), "utf-8")
        yield NewCampaign(
            name=(form.name or "").strip(),
            models=form.models or [],
            prompts=_source(form.source, path if lines else None, files),
            question=form.question or "",
            title=(form.title or "").strip(),
            welcome=form.welcome or "",
            thanks=form.thanks or "",
            language=form.language,
            criteria=[each.strip() for each in (form.criteria or "").split(",") if each.strip()],
            votes_per_pair=_limit(form.votes_per_pair),
            votes_per_person=_limit(form.votes_per_person),
            margin=MARGIN.read(form.margin) / 100,
            gold_share=GOLD_SHARE.read(form.gold_share) / 100,
            access=cast(Access, form.access),
            reveal=cast(RevealPolicy, form.reveal),
            on_leak=cast(LeakPolicy, form.on_leak),
        )


def _source(source: str | None, typed: Path | None, files: Files) -> PromptSource:
    if typed is not None:
        return PromptSource(file=typed)
    if not source:
        raise Invalid("Choose the questions, or type your own, one per line.", param="prompts")
    if source.startswith(STORED_FILE):
        return PromptSource(file=files.get(source.removeprefix(STORED_FILE)).path)
    return PromptSource(task=source) if source.startswith("run:") else PromptSource(stored=source)


def _limit(number: float | None) -> int | None:
    return int(number) if number else None
