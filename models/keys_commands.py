"""`parley keys`: make, show, change and revoke keys, and see what they have used. The rules are in models/keys.py."""

import json
from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid

if TYPE_CHECKING:
    from models.keys import KeyInfo, KeyLimits
    from models.usage import Sums, Usage

_NAME = typer.Argument(help="The key's name, or its id.")
_MODELS = typer.Option(
    help="The models it may use, with commas: ids, or aliases (that name, wherever it points). Without it: all."
)
_REQUESTS = typer.Option(help="Requests for models it may send a minute.")
_TOKENS = typer.Option(help="Tokens a minute, read and written together.")
_DAILY = typer.Option(help="Tokens a day (UTC), read and written together.")
_USD = typer.Option(help="US dollars a day (UTC), for hosted models that were registered with their prices.")
_EXPIRES = typer.Option(help="When it ends: 30d, 12h, or 2027-01-31 (that day included, UTC). Without it: never.")
_JSON = typer.Option("--json", help="Print JSON instead of a table.")


def add_keys_commands(app: typer.Typer) -> None:
    """Hangs `parley keys` on the app."""
    keys = typer.Typer(help="API keys: once there is one, the gateway and the page ask for it.", no_args_is_help=True)
    keys.command("create")(keys_create)
    keys.command("list")(keys_list)
    keys.command("show")(keys_show)
    keys.command("set")(keys_set)
    keys.command("revoke")(keys_revoke)
    keys.command("usage")(keys_usage)
    app.add_typer(keys, name="keys")


def keys_create(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    role: Annotated[str, typer.Option(help="client calls models; owner opens the owners' page too.")] = "client",
    models: Annotated[str | None, _MODELS] = None,
    requests_per_minute: Annotated[int | None, _REQUESTS] = None,
    tokens_per_minute: Annotated[int | None, _TOKENS] = None,
    daily_tokens: Annotated[int | None, _DAILY] = None,
    daily_usd: Annotated[float | None, _USD] = None,
    expires: Annotated[str | None, _EXPIRES] = None,
) -> None:
    """Make a key and print it, once. From the first key on, everybody needs one.

    Examples:

      parley keys create me --role owner

      parley keys create shop --models support-v3,bot --requests-per-minute 60 --daily-tokens 200000 --expires 90d
    """
    from models.cli import opened
    from models.database import utcnow
    from models.keys import KeyLimits, create_key, parse_end

    if role not in ("client", "owner"):
        raise Invalid(f"A key's role is owner or client, not {role!r}.", param="role")
    secret = create_key(
        opened()[1],
        name=name,
        role=role,
        expires=parse_end(expires, utcnow()) if expires else None,
        models=_names(models),
        limits=KeyLimits(requests_per_minute, tokens_per_minute, daily_tokens, daily_usd),
    )
    typer.echo(secret)


def keys_list(as_json: Annotated[bool, _JSON] = False) -> None:
    """List the keys, without the keys: what each may do, and what it has used today (UTC)."""
    from rich.table import Column, Table

    from models.cli import opened
    from models.database import utcnow
    from models.keys import list_keys
    from models.terminal import console
    from models.usage import Sums, used_on

    database = opened()[1]
    known, used = list_keys(database), used_on(database, utcnow().date())
    if as_json:
        typer.echo(json.dumps([_as_json(key, used.get(key.id, Sums())) for key in known], indent=2))
        return
    if not known:
        console().print("There are no keys: Parley listens on loopback only, and asks for none.")
        return
    names = ("key", "role", "models", "limits", "used today", "state")
    table = Table(*(Column(name, overflow="fold") for name in names), box=None, header_style="bold")
    for key in known:
        models = "all" if key.models is None else "\n".join(key.models)
        today = _words_of(used.get(key.id, Sums())).replace(", ", "\n")
        limits = _in_words(key.limits, "\n")
        table.add_row(f"{key.name}\n[dim]{key.id}[/dim]", key.role, models, limits, today, _state(key))
    console().print(table)


def keys_show(name: Annotated[str, _NAME], as_json: Annotated[bool, _JSON] = False) -> None:
    """Show one key: what it may do, when it ends, and what it has used today and in all."""
    from rich.markup import escape
    from rich.table import Table

    from models.cli import opened
    from models.database import utcnow
    from models.keys import find_key
    from models.terminal import console
    from models.usage import Sums, read_usage, used_on

    database = opened()[1]
    key = find_key(database, name)
    today = used_on(database, utcnow().date()).get(key.id, Sums())
    if as_json:
        typer.echo(json.dumps(_as_json(key, today), indent=2))
        return
    whole = Sums()
    for row in read_usage(database, key_id=key.id):
        whole.add(row.sums)
    facts = {
        "key": f"{key.name}, {key.role}", "id": key.id, "state": _state(key), "made": f"{key.created:%Y-%m-%d %H:%M}",
        "models": "all" if key.models is None else ", ".join(key.models), "limits": _in_words(key.limits),
        "used today": _words_of(today), "used in all": _words_of(whole),
    }  # fmt: skip
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for title, value in facts.items():
        table.add_row(title, escape(value))
    console().print(table)


def keys_set(
    name: Annotated[str, _NAME],
    models: Annotated[str | None, typer.Option(help="The models it may use, with commas; «all» for all.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Requests a minute; 0 for no limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Tokens a minute; 0 for no limit.")] = None,
    daily_tokens: Annotated[int | None, typer.Option(help="Tokens a day; 0 for no limit.")] = None,
    daily_usd: Annotated[float | None, typer.Option(help="US dollars a day; 0 for no limit.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends, as in `create`; «never» for never.")] = None,
) -> None:
    """Change what a living key may do. What is not named stays as it is; it bites within a second."""
    from models.cli import opened
    from models.database import utcnow
    from models.keys import change_key, find_key, parse_end
    from models.terminal import console

    database = opened()[1]
    key = find_key(database, name)
    given: dict[str, Any] = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "daily_tokens": daily_tokens,
        "daily_usd": daily_usd,
    }
    changed = {field: value or None for field, value in given.items() if value is not None}
    if not changed and models is None and expires is None:
        raise Invalid("Say what shall change, such as --daily-tokens 100000: `parley keys set --help`.")
    end = key.expires
    if expires is not None:
        end = None if expires == "never" else parse_end(expires, utcnow())
    scope = key.models if models is None else None if models == "all" else _names(models)
    now = change_key(database, key.id, models=scope, limits=replace(key.limits, **changed), expires=end)
    may = "all models" if now.models is None else ", ".join(now.models)
    console().print(f"[bold]{now.name}[/bold]: {may}; {_in_words(now.limits)}; {_state(now)}.")


def keys_revoke(name: Annotated[str, _NAME]) -> None:
    """Make a key useless from now on. A running gateway knows within a second."""
    from models.cli import opened
    from models.keys import find_key, revoke_key
    from models.terminal import console

    database = opened()[1]
    key = find_key(database, name)
    revoke_key(database, key.id)
    console().print(f"{key.name} is revoked.")


def keys_usage(
    key: Annotated[str | None, typer.Option(help="Of this key alone, by name or id.")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model alone.")] = None,
    since: Annotated[str | None, typer.Option(help="From this day on (UTC), or the last so many: 7d.")] = "30d",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Show what was used, by key and model; with --json by day as well. A running gateway is a second behind."""
    from models.cli import opened
    from models.keys import find_key
    from models.terminal import console
    from models.usage import read_usage

    database = opened()[1]
    key_id = find_key(database, key).id if key is not None else None
    rows = read_usage(database, since=_first_day(since) if since else None, key_id=key_id, model=model)
    if as_json:
        typer.echo(json.dumps([row.to_json() for row in rows], indent=2))
        return
    console().print(_usage_table(rows) if rows else "Nothing was used.")


def _in_words(limits: "KeyLimits", between: str = ", ") -> str:
    return between.join(limits.words()) or "no limits"


def _usage_table(rows: "list[Usage]") -> Any:
    from rich.table import Table

    from models.usage import Sums

    together: dict[tuple[str, str], Sums] = {}
    whole = Sums()
    for row in rows:
        together.setdefault((row.key, row.model), Sums()).add(row.sums)
        whole.add(row.sums)
    table = Table(box=None, header_style="bold")
    for title in ("key", "model"):
        table.add_column(title)
    for title in ("requests", "failed", "tokens in", "tokens out", "US$"):
        table.add_column(title, justify="right")
    for (key, model), sums in sorted(together.items(), key=lambda item: -item[1].tokens):
        table.add_row(key or "(no key)", model, *_cells(sums))
    if len(together) > 1:
        table.add_row("[bold]all", "", *_cells(whole))
    return table


def _cells(sums: "Sums") -> list[str]:
    money = f"{sums.usd:,.4f}" if sums.usd else ""
    counts = (sums.requests, sums.failed, sums.prompt_tokens, sums.completion_tokens)
    return [*(f"{count:,}" for count in counts), money]


def _words_of(sums: "Sums") -> str:
    if not sums.requests:
        return "nothing"
    money = f", ${sums.usd:,.4f}" if sums.usd else ""
    return f"{sums.requests:,} requests, {sums.tokens:,} tokens{money}"


def _state(key: "KeyInfo") -> str:
    from models.database import utcnow

    state = key.state(utcnow())
    return f"until {key.expires:%Y-%m-%d %H:%M}" if state == "in force" and key.expires else state


def _as_json(key: "KeyInfo", today: "Sums") -> dict[str, Any]:
    from models.database import utcnow

    when = {
        name: moment.isoformat() if (moment := getattr(key, name)) else None
        for name in ("created", "expires", "revoked")
    }
    may = {"models": None if key.models is None else list(key.models), "limits": asdict(key.limits)}
    known = {"id": key.id, "name": key.name, "role": key.role, "state": key.state(utcnow())}
    return known | when | may | {"used_today": asdict(today)}


def _names(models: str | None) -> list[str] | None:
    return None if models is None else [name.strip() for name in models.split(",") if name.strip()]


def _first_day(text: str) -> date:
    """`2026-11-01`, or `7d` for today and the six days before it."""
    from models.database import utcnow

    try:
        if text.endswith("d"):
            return utcnow().date() - timedelta(days=int(text[:-1]) - 1)
        return date.fromisoformat(text)
    except (ValueError, OverflowError):
        raise Invalid(f"--since is a day, such as 2026-11-01, or so many days, such as 7d; not {text!r}.") from None
