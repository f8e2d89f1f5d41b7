"""`parley campaign`: create, open and close campaigns, read their verdicts, change their models."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, cast

import typer

from evals.commands.campaign_people import add_people_commands
from evals.commands.flags import JsonFlag, OpenLinks, split_commas
from evals.reports.terminal import echo, folding_table
from models.errors import Invalid
from models.terminal import open_home, print_json

Name = Annotated[str, typer.Argument(help="The campaign's name.")]
Model = Annotated[str, typer.Argument(help="A model's name, an alias, or MODEL@recorded.")]


def campaign_group() -> typer.Typer:
    """The commands under `parley campaign`."""
    group = typer.Typer(
        help="Ask people blind which answer is better: campaigns, their invites and their verdicts.",
        no_args_is_help=True,
        rich_markup_mode="rich",
    )
    group.command("create")(create)
    group.command("gold")(add_gold)
    group.command("plan")(plan)
    group.command("open")(open_)
    group.command("close")(close)
    group.command("list")(list_all)
    group.command("show")(show)
    group.command("report")(report)
    add_people_commands(group)
    group.command("prepare")(prepare)
    group.command("add-model")(add)
    group.command("remove-model")(remove)
    group.command("export")(export)
    group.command("check")(check)
    return group


def create(
    name: Annotated[str, typer.Argument(help="A name of lower-case letters, digits and dashes.")],
    models: Annotated[str, typer.Option(help="The models, separated by commas; MODEL@recorded for recorded answers.")],
    question: Annotated[str, typer.Option(help="What raters are asked, in your words.")],
    prompts: Annotated[Path | None, typer.Option(help="A JSONL file of prompts.")] = None,
    task: Annotated[str | None, typer.Option(help="Held-out samples of a task, such as run:ID.")] = None,
    stored: Annotated[str | None, typer.Option(help="Stored prompts: all, held-out or category:NAME.")] = None,
    title: Annotated[str, typer.Option(help="The heading that raters see; by default the name.")] = "",
    welcome: Annotated[str, typer.Option(help="What raters read on the start page.")] = "",
    thanks: Annotated[str, typer.Option(help="What raters read at the end, such as what happens next.")] = "",
    criteria: Annotated[str | None, typer.Option(help="Up to five more criteria, separated by commas.")] = None,
    votes_per_pair: Annotated[
        int, typer.Option(min=0, help="People who vote on each pair of answers; 0: no limit.")
    ] = 1,
    votes_per_person: Annotated[int, typer.Option(min=0, help="Votes asked of one person; 0: no limit.")] = 0,
    margin: Annotated[float, typer.Option(help="“At least as good” allows this much below half of the wins.")] = 0.05,
    access: Annotated[str, typer.Option(help="Who may vote: invited, or open to anyone with the link.")] = "invited",
    reveal: Annotated[
        str, typer.Option(help="When raters see the models' names: after_vote, at_end, never.")
    ] = "at_end",
    on_leak: Annotated[
        str, typer.Option(help="If an answer names its model: mask the name, or set_aside the pair.")
    ] = "mask",
    language: Annotated[str, typer.Option(help="The language of the page, such as en or de.")] = "en",
    repeats: Annotated[float, typer.Option(help="The share of pairs shown twice, for self-consistency.")] = 0.0,
    gold: Annotated[float, typer.Option(help="The share of gold pairs among the pairs shown, if you add some.")] = 0.05,
    samples: Annotated[int, typer.Option(help="Answers of each model to each prompt.")] = 1,
    opens: Annotated[str | None, typer.Option(help="When it opens, such as 2027-01-05T09:00.")] = None,
    closes: Annotated[str | None, typer.Option(help="When it closes.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a campaign as a draft. Its models, prompts and size are fixed once you open it.

    Examples:

      parley campaign create acceptance --models support-v2,gpt-4o@recorded --prompts prompts.jsonl
      --question "Which answer would you send to the customer?" --votes-per-person 30

      parley campaign plan acceptance --voters 8

      parley campaign open acceptance
    """
    from evals.campaigns.campaign import Access, LeakPolicy, NewCampaign, PromptSource, RevealPolicy
    from evals.campaigns.lifecycle import create_campaign

    new = NewCampaign(
        name=name,
        models=split_commas(models),
        prompts=PromptSource(prompts, task, stored),
        question=question,
        title=title,
        welcome=welcome,
        thanks=thanks,
        language=language,
        criteria=split_commas(criteria),
        votes_per_pair=votes_per_pair or None,
        votes_per_person=votes_per_person or None,
        margin=margin,
        access=cast(Access, access),
        reveal=cast(RevealPolicy, reveal),
        on_leak=cast(LeakPolicy, on_leak),
        repeat_share=repeats,
        gold_share=gold,
        samples=samples,
        opens=parse_time(opens, "opens"),
        closes=parse_time(closes, "closes"),
    )
    with open_home() as home:
        campaign = create_campaign(home.database, new, home.settings.runs_dir)
    if as_json:
        print_json(campaign.to_json())
        return
    echo(f"{campaign.name} is a draft: {len(campaign.models)} models, {campaign.prompts} prompts.")
    echo(f"Next: `parley campaign plan {name} --voters N`, then `parley campaign open {name}`.")


def add_gold(
    name: Name,
    file: Annotated[Path, typer.Argument(help='JSONL: {"prompt": …, "better": …, "worse": …} on each line.')],
    as_json: JsonFlag = False,
) -> None:
    """Add gold pairs to a draft: two answers, one of them clearly better.

    They show which raters read carefully, and count in no verdict.
    `prompt` is the question as it is in the campaign, or its id.
    """
    from evals.campaigns.gold_pairs import add_gold_pairs, count_gold_pairs, read_gold_pairs

    with open_home() as home:
        pairs = read_gold_pairs(home.database, name, file)
        add_gold_pairs(home.database, name, pairs)
        total = count_gold_pairs(home.database, name)
    if as_json:
        print_json({"added": len(pairs), "gold_pairs": total})
    else:
        echo(f"{len(pairs)} gold pairs were added; {name} has {total}.")


def plan(
    name: Name,
    voters: Annotated[int, typer.Option(min=1, help="How many people you expect.")] = 8,
    votes_each: Annotated[int | None, typer.Option(min=1, help="Votes of one person between two models.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Estimate before the first vote what this many voters can show. Change the size until that is enough.

    Campaigns of this size are simulated: how often the verdict detects a model that wins 60 % or 65 % of the time, and
    how often it shows that an equally good model is at least as good. Few voters can never speak for people in general.
    """
    from evals.campaigns.lifecycle import load_campaign
    from evals.campaigns.report import campaign_plan

    with open_home() as home:
        power = campaign_plan(load_campaign(home.database, name), voters, votes_each)
    if as_json:
        print_json(power.to_json())
    else:
        echo(power.text)


def open_(name: Name, as_json: JsonFlag = False) -> None:
    """Open a campaign. This fixes its models, prompts and size; the worker then requests all answers."""
    from evals.campaigns.lifecycle import open_campaign
    from evals.campaigns.preparation import preparation

    with open_home() as home:
        campaign = open_campaign(home.database, name)
        gaps = [prepared.gap for prepared in preparation(home.database, name) if prepared.gap]
    if as_json:
        print_json(campaign.to_json())
        return
    when = f" from {campaign.opens:%Y-%m-%d %H:%M} UTC" if campaign.state == "scheduled" else ""
    echo(f"{name} is open{when}. `parley campaign show {name}` shows its progress.")
    for gap in gaps:
        echo(f"· {gap}")
    if campaign.access == "invited":
        echo(f'Invite people: `parley campaign invite {name} "Ann Smith"`.')


def close(name: Name, as_json: JsonFlag = False) -> None:
    """Close a campaign: it takes no more votes, and its verdict is final. This cannot be undone."""
    from evals.campaigns.lifecycle import close_campaign

    with open_home() as home:
        campaign = close_campaign(home.database, name)
    if as_json:
        print_json(campaign.to_json())
    else:
        echo(f"{name} is closed. Its verdict: `parley campaign report {name}`.")


def list_all(as_json: JsonFlag = False) -> None:
    """List the campaigns, newest first. `open` is the one at /vote."""
    from evals.campaigns.lifecycle import list_campaigns

    with open_home() as home:
        campaigns = list_campaigns(home.database)
    if as_json:
        print_json([campaign.to_json() for campaign in campaigns])
        return
    table = folding_table("campaign", "state", "models", "prompts", "question")
    for each in campaigns:
        table.add_row(each.name, each.state, ", ".join(each.models) or "none", str(each.prompts), each.question)
    echo(table)


def show(name: Name, as_json: JsonFlag = False) -> None:
    """Show a campaign's progress: votes, raters, prepared answers, failures, and answers that named their model."""
    from evals.campaigns.progress import campaign_progress

    with open_home() as home:
        progress = campaign_progress(home.database, name)
    if as_json:
        print_json(progress.to_json())
        return
    campaign = progress.campaign
    echo(f"{campaign.title} ({name}): {campaign.state}. {campaign.question}")
    wanted = f" of {progress.wanted:,}" if progress.wanted is not None else ""
    echo(
        f"{progress.votes:,}{wanted} votes of {progress.voters} people; models: {', '.join(campaign.models) or 'none'}."
    )
    if progress.left_share is not None:
        echo(f"The left answer won {progress.left_share:.0%} of the decisive votes.")
    for prepared in progress.prepared:
        echo(f"· {prepared.gap or f'{prepared.model}: {prepared.answers} of {prepared.wanted} answers prepared'}")
    if progress.job is not None and not progress.job.over:
        echo(f"· preparing: {progress.job.message}")
    for model, answers in progress.leaks.items():
        echo(f"· {answers} answers of {model} contain a model's name, which is hidden")
    for style in progress.style:
        echo(f"· {style.text}")
    for failure in progress.set_aside:
        until = (
            f"until {failure.until:%H:%M:%S} UTC" if failure.resting and failure.until.year < 2100 else "permanently"
        )
        state = f"set aside {until}" if failure.resting else "failed last time"
        what = " and ".join(part for part in (failure.place.model_1, failure.place.model_2) if part)
        echo(f"· {what}{' on one prompt' if failure.place.prompt_id else ''}: {state} ({failure.reason})")
    for reason, times in progress.skips.items():
        echo(f"· {times} skipped: {reason}")
    for gold in progress.gold:
        echo(f"· {gold.voter}: {gold.right} of {gold.votes} gold pairs correct")
    if progress.raters:
        table = folding_table("rater", "link", "votes")
        for each in progress.raters:
            table.add_row(each.rater.name or each.rater.voter, each.rater.link, str(each.votes))
        echo(table)


def report(name: Name, open_links: OpenLinks = True, as_json: JsonFlag = False) -> None:
    """Show a campaign's verdicts. They are final once the campaign is closed."""
    from evals.campaigns.report import campaign_report

    with open_home() as home:
        verdicts = campaign_report(home.database, name, open_links=open_links)
    if as_json:
        print_json(verdicts.to_json())
    else:
        echo(verdicts.text)


def prepare(name: Name) -> None:
    """Request missing answers again, after a model failed. The worker does this in the background."""
    from evals.campaigns.preparation import queue_preparation

    with open_home() as home:
        queue_preparation(home.database, name)
    echo(f"The worker requests the missing answers. `parley campaign show {name}` shows its progress.")


def add(name: Name, model: Model, as_json: JsonFlag = False) -> None:
    """Add a model to a draft, or to the campaign `open`, which is the page at /vote.

    Example:

      parley campaign add-model open support-v2
    """
    from evals.campaigns.lifecycle import add_model

    with open_home() as home:
        campaign = add_model(home.database, name, model)
    if as_json:
        print_json(campaign.to_json())
    else:
        echo(f"{name} ({campaign.state}) compares: {', '.join(campaign.models)}.")


def remove(name: Name, model: Model, as_json: JsonFlag = False) -> None:
    """Remove a model from a draft, or from the campaign `open`. Its votes stay."""
    from evals.campaigns.lifecycle import remove_model

    with open_home() as home:
        campaign = remove_model(home.database, name, model)
    if as_json:
        print_json(campaign.to_json())
    else:
        echo(f"{name} ({campaign.state}) compares: {', '.join(campaign.models) or 'nothing yet'}.")


def export(
    name: Name,
    file: Annotated[Path, typer.Argument(help="A new folder, or a .zip file.")],
) -> None:
    """Export a campaign with its votes, answers, prompts and verdict, so that others can check the verdict.

    Raters appear as numbered voters. `parley campaign check FILE` recomputes the verdict on any machine.
    """
    from evals.campaigns.bundle import write_bundle

    with open_home() as home:
        written = write_bundle(home.database, name, file)
    echo(f"{written.votes} votes written to {file}. `parley campaign check {file}` recomputes the verdict.")
    echo(f"SHA-256 of the export: {written.sha256}. Publish it, so that others can verify that they have this export.")


def check(
    file: Annotated[Path, typer.Argument(help="A folder or .zip file that `parley campaign export` wrote.")],
    as_json: JsonFlag = False,
) -> None:
    """Check an exported campaign: no byte was changed, and its votes give its verdict."""
    from evals.campaigns.bundle import check_bundle

    checked = check_bundle(file)
    if as_json:
        print_json(checked.to_json())
    else:
        echo(f"Nothing was changed, and {checked.votes} votes give the same verdict.")
        echo(f"SHA-256 of the export: {checked.sha256}. Compare it with the one that was published.")
        echo(checked.text)


def parse_time(text: str | None, flag: str) -> datetime | None:
    """A flag's time; without a time zone, in this machine's.

    Raises:
        Invalid: it is not a time.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise Invalid(f"--{flag} is {text!r}: use a time such as 2027-01-05T09:00.", param=flag) from error
