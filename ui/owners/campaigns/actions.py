"""What the Campaigns tab does to the database, for an owner or for the manager of one campaign."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from evals.campaigns.campaign import Campaign
from evals.campaigns.campaign_prompts import campaign_prompts
from evals.campaigns.gold_pairs import GoldPair, add_gold_pairs, count_gold_pairs
from evals.campaigns.invites import Invite, NewInvite, Role, create_invite, list_invites, revoke_invite, sign_invite
from evals.campaigns.lifecycle import close_campaign, create_campaign, list_campaigns, load_campaign, open_campaign
from evals.campaigns.progress import CampaignProgress, campaign_progress
from evals.campaigns.raters import Forgotten, forget_person, list_raters
from evals.recordings.recorded_models import recorded_on
from evals.votes.prompts import prompts
from models.chat.messages import last_question
from models.database import Database, utcnow
from models.errors import Forbidden, Invalid
from models.files.stored_files import Files
from models.home.page_secret import page_secret
from models.jobs.jobs import list_jobs
from models.settings.settings import Settings
from ui.backend.uploads import TASK_PURPOSE, file_label
from ui.owners.campaigns.form import STORED_FILE, CampaignForm, new_campaign

if TYPE_CHECKING:
    from evals.campaigns.report import CampaignReport

INVITE_PATH = "/vote/i/"
_SHORT = 90  # characters of a question in a list


@dataclass(frozen=True)
class CampaignActions:
    """The actions. `managed`: the only campaign that the caller manages; None for an owner, who manages all.

    `page_url`: the address at which the caller's browser sees the page; None: the one in the settings.

    Every method raises Forbidden for a campaign that the caller does not manage, and NotFound if there is none.
    """

    database: Database
    settings: Settings
    managed: str | None = None
    page_url: str | None = None

    def campaigns(self) -> list[Campaign]:
        """The campaigns that the caller may see, the newest first."""
        return [each for each in list_campaigns(self.database) if self.managed in (None, each.name)]

    def sources(self) -> list[tuple[str, str]]:
        """Where questions can come from: label and value. Only owners create campaigns."""
        if self.managed is not None:
            return []
        stored = prompts(self.database)
        options = [(f"All stored questions ({len(stored)})", "all")] if stored else []
        if held_out := sum(prompt.held_out for prompt in stored):
            options.append((f"Held-out stored questions ({held_out})", "held-out"))
        categories = sorted({prompt.category for prompt in stored if prompt.category})
        options += [(f"Stored questions on {category}", f"category:{category}") for category in categories]
        for job in list_jobs(self.database, "train"):
            if job.status == "succeeded":
                name = job.params.get("name") or job.id
                options.append((f"Held-out samples of the training {name}", f"run:{job.id}"))
        files = self._files.list(TASK_PURPOSE)
        return options + [
            (file_label(file), f"{STORED_FILE}{file.id}") for file in files if file.filename.endswith(".jsonl")
        ]

    def create(self, form: CampaignForm) -> Campaign:
        """Creates a campaign as a draft; owners only."""
        if self.managed is not None:
            raise Forbidden("Only owners can create campaigns.")
        with new_campaign(form, self._files) as new:
            return create_campaign(self.database, new, self.settings.runs_dir)

    def progress(self, name: str) -> CampaignProgress:
        """A campaign's progress."""
        return campaign_progress(self.database, self._own(name))

    def plan(self, name: str, voters: int) -> str:
        """What this many voters can show."""
        from evals.campaigns.report import campaign_plan  # loads scipy.stats: a second of the page's start

        return campaign_plan(load_campaign(self.database, self._own(name)), max(1, voters)).text

    def open(self, name: str) -> Campaign:
        """Opens a draft."""
        return open_campaign(self.database, self._own(name))

    def close(self, name: str) -> Campaign:
        """Closes a campaign permanently."""
        return close_campaign(self.database, self._own(name))

    def recorded(self, name: str) -> list[str]:
        """A sentence for each recorded model of the campaign: when its answers were recorded."""
        return recorded_on(self.database, load_campaign(self.database, self._own(name)).models)

    def report(self, name: str, open_links: bool) -> "tuple[CampaignReport, Mapping[str, str]]":
        """The report, and the names of voters who have one."""
        from evals.campaigns.report import campaign_report  # loads scipy.stats, as above

        report = campaign_report(self.database, self._own(name), open_links=open_links)
        named = {
            each.rater.voter: each.rater.name
            for each in list_raters(self.database, name)
            if each.rater.name is not None
        }
        return report, named

    def invite(self, name: str, person: str, role: str, days: int) -> tuple[Invite, str]:
        """A new invite and its link. `role`: group for a link of many raters; `days` of 0: it does not expire."""
        if self.managed is not None and role == "manager":
            raise Forbidden("Only owners can invite managers.")
        group = role == "group"
        expires = utcnow() + timedelta(days=days) if days > 0 else None
        new = NewInvite(self._own(name), person or "", cast(Role, "rater" if group else role), group, expires)
        made = create_invite(self.database, new)
        return made, self._link(made)

    def invites(self, name: str) -> list[tuple[Invite, str]]:
        """The campaign's invites with their links; a manager sees no link of another manager."""
        listed = list_invites(self.database, self._own(name))
        return [(each, self._link(each)) for each in listed if self.managed is None or each.role != "manager"]

    def revoke(self, name: str, invite_id: str) -> Invite:
        """Revokes an invite of this campaign."""
        if not any(each.id == invite_id for each, _ in self.invites(name)):
            raise Invalid("Choose an invite of this campaign.", param="invite")
        return revoke_invite(self.database, invite_id)

    def people(self, name: str) -> list[tuple[str, str]]:
        """The people who can be forgotten, as names with the argument of `forget`: named raters, and invited people."""
        raters = [each.rater for each in list_raters(self.database, self._own(name)) if each.rater.name]
        joined = {rater.invite_id for rater in raters}
        waiting = [each.name for each, _ in self.invites(name) if not each.is_group and each.id not in joined]
        return [(rater.name or "", rater.voter) for rater in raters] + [(person, person) for person in waiting]

    def forget(self, name: str, person: str) -> Forgotten:
        """Removes what is stored of a person in this campaign; the votes stay."""
        if person not in {value for _, value in self.people(name)}:
            raise Invalid("Choose a person of this campaign.", param="person")
        return forget_person(self.database, person, name)

    def questions(self, name: str) -> list[tuple[str, str]]:
        """The campaign's questions: a short form, and the prompt's id."""
        prompts = campaign_prompts(self.database, self._own(name))
        return [(_shortened(last_question(prompt.messages)), prompt.id) for prompt in prompts]

    def add_gold(self, name: str, prompt_id: str, better: str, worse: str) -> int:
        """Adds a gold pair to a draft; returns how many there are."""
        if prompt_id not in {value for _, value in self.questions(name)}:
            raise Invalid("Choose a question of this campaign.", param="prompt")
        add_gold_pairs(self.database, name, [GoldPair(prompt_id, better, worse)])
        return count_gold_pairs(self.database, name)

    @property
    def _files(self) -> Files:
        return Files(self.settings, self.database)

    def _own(self, name: str) -> str:
        if self.managed is not None and name != self.managed:
            raise Forbidden("You do not manage this campaign.")
        return name

    def _link(self, invite: Invite) -> str:
        token = sign_invite(page_secret(self.settings.home), invite.id)
        return (self.page_url or self.settings.page_url).rstrip("/") + INVITE_PATH + token


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else line[: _SHORT - 1] + "…"
