"""`parley keys`: create, show, change and revoke API keys, and report their usage. The rules are in models/keys.py."""

from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from models.errors import Invalid
from models.quantities import count_noun
from models.terminal import console, open_home, print_json

if TYPE_CHECKING:
    from models.keys import KeyInfo, KeyLimits
    from models.usage import Sums, Usage

_NAME = typer.Argument(help="The key's name or id.")
_MODELS = typer.Option(help="Models it may use: comma-separated ids, or aliases (that name only). Default: all.")
_REQUESTS = typer.Option(help="Model requests per minute.")
_TOKENS = typer.Option(help="Tokens per minute, input and output together.")
_DAILY = typer.Option(help="Tokens per UTC day, input and output together.")
_USD = typer.Option(help="US dollars per UTC day, spent on hosted models with registered prices.")
_EXPIRES = typer.Option(help="When it expires: 30d, 12h, or at the end of a UTC day, 2027-01-31. Without it: never.")
_JSON = typer.Option("--json", help="Print JSON instead of a table.")


def add_keys_commands(app: typer.Typer) -> None:
    """Adds `parley keys` to the `parley` app."""
    keys = typer.Typer(
        help="API keys. Once one exists, the gateway and the owners' page require a key.", no_args_is_help=True
    )
    keys.command("create")(keys_create)
    keys.command("list")(keys_list)
    keys.command("show")(keys_show)
    keys.command("set")(keys_set)
    keys.command("revoke")(keys_revoke)
    keys.command("usage")(keys_usage)
    app.add_typer(keys, name="keys")


def keys_create(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    role: Annotated[
        Literal["client", "owner"], typer.Option(help="A client calls models; an owner may also open the owners' page.")
    ] = "client",
    models: Annotated[str | None, _MODELS] = None,
    requests_per_minute: Annotated[int | None, _REQUESTS] = None,
    tokens_per_minute: Annotated[int | None, _TOKENS] = None,
    daily_tokens: Annotated[int | None, _DAILY] = None,
    daily_usd: Annotated[float | None, _USD] = None,
    expires: Annotated[str | None, _EXPIRES] = None,
) -> None:
    """Create a key and print it once. From the first key on, every program needs one.

    Examples:

      parley keys create me --role owner

      parley keys create shop --models support-v3,bot --requests-per-minute 60 --daily-tokens 200000 --expires 90d
    """
    from models.database import utcnow
    from models.keys import KeyLimits, create_key, parse_expiry

    with open_home() as home:
        secret = create_key(
            home.database,
            name=name,
            role=role,
            expires=parse_expiry(expires, utcnow()) if expires else None,
            models=_split_names(models),
            limits=KeyLimits(requests_per_minute, tokens_per_minute, daily_tokens, daily_usd),
        )
    typer.echo(secret)


def keys_list(as_json: Annotated[bool, _JSON] = False) -> None:
    """List all keys with their models, limits and today's usage (UTC). The secrets are never shown."""
    from rich.table import Column, Table

    from models.database import utcnow
    from models.keys import list_keys
    from models.usage import Sums, daily_totals

    with open_home() as home:
        known, used = list_keys(home.database), daily_totals(home.database, utcnow().date())
    if as_json:
        print_json([_to_json(key, used.get(key.id, Sums())) for key in known], indent=2)
        return
    if not known:
        console().print("There are no keys. Parley listens on loopback only and requires none.")
        return
    names = ("key", "role", "models", "limits", "used today", "state")
    table = Table(*(Column(name, overflow="fold") for name in names), box=None, header_style="bold")
    for key in known:
        models = "all" if key.models is None else "\n".join(key.models)
        today = _describe_usage(used.get(key.id, Sums())).replace(", ", "\n")
        limits = _describe_limits(key.limits, "\n")
        table.add_row(f"{key.name}\n[dim]{key.id}[/dim]", key.role, models, limits, today, _state(key))
    console().print(table)


def keys_show(name: Annotated[str, _NAME], as_json: Annotated[bool, _JSON] = False) -> None:
    """Show one key: its models and limits, when it expires, and its usage today and in total."""
    from rich.markup import escape
    from rich.table import Table

    from models.database import utcnow
    from models.keys import find_key
    from models.usage import Sums, daily_totals, read_usage

    with open_home() as home:
        key = find_key(home.database, name)
        today = daily_totals(home.database, utcnow().date()).get(key.id, Sums())
        total = _total(read_usage(home.database, key_id=key.id))
    if as_json:
        print_json(_to_json(key, today), indent=2)
        return
    facts = {
        "key": f"{key.name}, {key.role}", "id": key.id, "state": _state(key),
        "created": f"{key.created:%Y-%m-%d %H:%M}",
        "models": "all" if key.models is None else ", ".join(key.models), "limits": _describe_limits(key.limits),
        "used today": _describe_usage(today), "used in total": _describe_usage(total),
    }  # fmt: skip
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for title, value in facts.items():
        table.add_row(title, escape(value))
    console().print(table)


def keys_set(
    name: Annotated[str, _NAME],
    models: Annotated[str | None, typer.Option(help="Models it may use, comma-separated, or all.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Requests per minute; 0 for no limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Tokens per minute; 0 for no limit.")] = None,
    daily_tokens: Annotated[int | None, typer.Option(help="Tokens per UTC day; 0 for no limit.")] = None,
    daily_usd: Annotated[float | None, typer.Option(help="US dollars per UTC day; 0 for no limit.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it expires, as in `create`; never for never.")] = None,
) -> None:
    """Change an active key. Options that are left out stay as they are; a change takes effect within a second."""
    from models.database import utcnow
    from models.keys import change_key, find_key, parse_expiry

    given: dict[str, Any] = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "daily_tokens": daily_tokens,
        "daily_usd": daily_usd,
    }
    changed = {field: value or None for field, value in given.items() if value is not None}
    if not changed and models is None and expires is None:
        raise Invalid("Say what to change, such as --daily-tokens 100000. See `parley keys set --help`.")
    with open_home() as home:
        key = find_key(home.database, name)
        end = key.expires
        if expires is not None:
            end = None if expires == "never" else parse_expiry(expires, utcnow())
        scope = key.models if models is None else None if models == "all" else _split_names(models)
        now = change_key(home.database, key.id, models=scope, limits=replace(key.limits, **changed), expires=end)
    allowed = "all models" if now.models is None else ", ".join(now.models)
    console().print(f"[bold]{now.name}[/bold]: {allowed}; {_describe_limits(now.limits)}; {_state(now)}.")


def keys_revoke(name: Annotated[str, _NAME]) -> None:
    """Revoke a key. A running gateway refuses it within a second."""
    from models.keys import find_key, revoke_key

    with open_home() as home:
        key = find_key(home.database, name)
        revoke_key(home.database, key.id)
    console().print(f"{key.name} is revoked.")


def keys_usage(
    key: Annotated[str | None, typer.Option(help="Only this key, by name or id.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    since: Annotated[str | None, typer.Option(help="The first UTC day, or a number of days: 7d.")] = "30d",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Show usage by key and model; with --json also by day. A running gateway writes it once a second."""
    from models.keys import find_key
    from models.usage import read_usage

    with open_home() as home:
        key_id = find_key(home.database, key).id if key is not None else None
        first = _first_day(since) if since else None
        rows = read_usage(home.database, since=first, key_id=key_id, model=model)
    if as_json:
        print_json([row.to_json() for row in rows], indent=2)
        return
    console().print(_usage_table(rows) if rows else "No usage.")


def _describe_limits(limits: "KeyLimits", separator: str = ", ") -> str:
    return separator.join(limits.describe()) or "no limits"


def _total(rows: "list[Usage]") -> "Sums":
    from models.usage import Sums

    total = Sums()
    for row in rows:
        total.add(row.sums)
    return total


def _usage_table(rows: "list[Usage]") -> Any:
    from rich.table import Table

    from models.usage import Sums

    by_model: dict[tuple[str, str], Sums] = {}
    for row in rows:
        by_model.setdefault((row.key, row.model), Sums()).add(row.sums)
    table = Table(box=None, header_style="bold")
    for title in ("key", "model"):
        table.add_column(title)
    for title in ("requests", "failed", "tokens in", "tokens out", "US$"):
        table.add_column(title, justify="right")
    for (key, model), sums in sorted(by_model.items(), key=lambda item: -item[1].tokens):
        table.add_row(key or "(no key)", model, *_cells(sums))
    if len(by_model) > 1:
        table.add_row("[bold]all", "", *_cells(_total(rows)))
    return table


def _cells(sums: "Sums") -> list[str]:
    money = f"{sums.usd:,.4f}" if sums.usd else ""
    counts = (sums.requests, sums.failed, sums.prompt_tokens, sums.completion_tokens)
    return [*(f"{count:,}" for count in counts), money]


def _describe_usage(sums: "Sums") -> str:
    if not sums.requests:
        return "nothing"
    money = f", ${sums.usd:,.4f}" if sums.usd else ""
    return f"{count_noun(sums.requests, 'request')}, {count_noun(sums.tokens, 'token')}{money}"


def _state(key: "KeyInfo") -> str:
    from models.database import utcnow

    state = key.state(utcnow())
    return f"until {key.expires:%Y-%m-%d %H:%M}" if state == "in force" and key.expires else state


def _to_json(key: "KeyInfo", today: "Sums") -> dict[str, Any]:
    from models.database import utcnow

    return key.to_json(utcnow()) | {"used_today": asdict(today)}


def _split_names(models: str | None) -> list[str] | None:
    return None if models is None else [name.strip() for name in models.split(",") if name.strip()]


def _first_day(text: str) -> date:
    """The day in `2026-11-01`; for `7d` the day six days before today."""
    from models.database import utcnow

    try:
        if text.endswith("d"):
            return utcnow().date() - timedelta(days=int(text[:-1]) - 1)
        return date.fromisoformat(text)
    except (ValueError, OverflowError):
        raise Invalid(f"--since is {text!r}: use a day such as 2026-11-01, or a number of days such as 7d.") from None
