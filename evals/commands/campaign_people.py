"""`parley campaign invite`, `invites`, `revoke` and `forget`: the people of a campaign."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, cast

import typer

from evals.commands.flags import JsonFlag
from evals.reports.terminal import echo, folding_table
from models.terminal import open_home, print_json

if TYPE_CHECKING:
    from evals.campaigns.invites import Invite
    from models.settings.settings import Settings

Name = Annotated[str, typer.Argument(help="The campaign's name.")]
JOIN = "/vote/i/"  # the page's address of invites, before the token


def add_people_commands(group: typer.Typer) -> None:
    """Adds these commands to the group `parley campaign`."""
    group.command("invite")(invite)
    group.command("invites")(list_links)
    group.command("revoke")(revoke)
    group.command("forget")(forget)


def invite(
    name: Name,
    person: Annotated[str, typer.Argument(help="The person's name; with --group, the group's name.")],
    is_group: Annotated[
        bool, typer.Option("--group", help="Make one link for many people; each of them types a name.")
    ] = False,
    role: Annotated[str, typer.Option(help="rater, manager (of this campaign) or viewer (of its report).")] = "rater",
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Days until the link expires.")] = None,
    qr: Annotated[bool, typer.Option("--qr/--no-qr", help="Also draw the link as a QR code.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Make a link for a person or a group, with a QR code. One person's link works on every device.

    Examples:

      parley campaign invite acceptance "Ann Smith" --days 14

      parley campaign invite acceptance "Support team" --group
    """
    from evals.campaigns.invites import NewInvite, Role, create_invite
    from models.database import utcnow

    expires = None if days is None else utcnow() + timedelta(days=days)
    with open_home() as home:
        made = create_invite(home.database, NewInvite(name, person, cast(Role, role), is_group, expires))
        link = invite_link(home.settings, made)
    if as_json:
        print_json(made.to_json() | {"link": link})
        return
    echo(f"Invite {made.id} for {made.name}:")
    typer.echo(link)  # unwrapped, so that it can be copied
    if qr:
        typer.echo(qr_text(link))
    echo("Anyone with this link can use it. Revoke it with `parley campaign revoke " + made.id + "`.")


def list_links(name: Name, as_json: JsonFlag = False) -> None:
    """List a campaign's invites with their links."""
    from evals.campaigns.invites import list_invites
    from evals.campaigns.lifecycle import load_campaign

    with open_home() as home:
        load_campaign(home.database, name)
        invites = [(each, invite_link(home.settings, each)) for each in list_invites(home.database, name)]
    if as_json:
        print_json([each.to_json() | {"link": link} for each, link in invites])
        return
    table = folding_table("invite", "for", "role", "state", "link")
    for each, link in invites:
        state = "revoked" if each.revoked else "valid" if each.valid else "expired"
        table.add_row(each.id, f"{each.name} (group)" if each.is_group else each.name, each.role, state, link)
    echo(table if invites else f'Nobody is invited yet: `parley campaign invite {name} "Ann Smith"`.')


def revoke(invite_id: Annotated[str, typer.Argument(help="The invite's id.")]) -> None:
    """Revoke an invite. Its link stops working at once; the votes stay."""
    from evals.campaigns.invites import revoke_invite

    with open_home() as home:
        revoked = revoke_invite(home.database, invite_id.upper())
    echo(f"The link of {revoked.name} no longer works.")


def forget(
    person: Annotated[
        str, typer.Argument(help="The name in the invite, the name that the person typed, or a voter id.")
    ],
    campaign: Annotated[str | None, typer.Option(help="Only in this campaign.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove what is stored of a person: name, invite, address and comments. Their votes stay, without a name.

    The name may also be that of a voter in an imported file. Earlier backups and exported files still contain it.
    """
    from dataclasses import asdict

    from evals.campaigns.raters import forget_person

    with open_home() as home:
        forgotten = forget_person(home.database, person, campaign)
    if as_json:
        print_json(asdict(forgotten))
    else:
        echo(
            f"{person} is forgotten. Raters made anonymous: {forgotten.raters}; invites deleted: {forgotten.invites}; "
            f"comments deleted: {forgotten.comments}."
        )
        if forgotten.imported:
            echo(f"{forgotten.imported} imported votes now have a random voter id.")
        echo("Earlier backups and exported files still contain the name: delete them, or make new ones.")


def invite_link(settings: "Settings", made: "Invite") -> str:
    """The link of an invite, at the page's address."""
    from evals.campaigns.invites import sign_invite
    from models.home.page_secret import page_secret

    return settings.page_url.rstrip("/") + JOIN + sign_invite(page_secret(settings.home), made.id)


def qr_text(link: str) -> str:
    """The link as a QR code of half blocks."""
    from io import StringIO

    import segno

    drawn = StringIO()
    segno.make(link, error="l", micro=False).terminal(drawn, compact=True, border=2)
    return drawn.getvalue()
