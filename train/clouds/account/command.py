"""What `parley rescue --all` and `parley rescue inventory` do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from models.errors import Conflict, Invalid, ParleyError
from models.openai_fetch.account import Account, Stop, environment_account, printable
from models.openai_fetch.client import Client
from models.openai_fetch.command import (
    INCOMPLETE,
    fetch_account,
    parse_kinds,
    require_fetch,
    verify_folder,
    write_page,
)
from models.openai_fetch.dry_run import dry_run_lines
from models.openai_fetch.fetch import INVENTORY, Extent
from models.openai_fetch.inventory import Inventory, read_inventory
from models.openai_fetch.inventory_text import headline, summary_lines
from models.openai_fetch.progress import Progress
from models.quantities import count_noun
from models.terminal import Home, console, open_home, print_json
from train.clouds.account.display import fine_tune_table, inventory_json, more_rows, next_commands
from train.clouds.account.home_import import FILE_IDS, HomeImport, import_account
from train.clouds.account.options import AccountOptions

if TYPE_CHECKING:
    from models.settings.settings import Settings

FOLDER = "openai-account"  # in the home
_FETCH = "parley rescue --all"
_MOST_LOST = 20


def rescue_account(options: AccountOptions, dry_run: bool, as_json: bool) -> None:
    """Fetches the whole account, imports it into the home, and prints the next commands.

    Raises:
        typer.Exit: with status 3 if objects were refused or failed, or copies are damaged.
    """
    with open_home() as home, _errors():
        folder = options.folder or home.settings.home / FOLDER
        if options.verify:
            _verify(folder, as_json)
            return
        if dry_run:
            _dry_run(home.settings, options, as_json)
            return
        complete = options.offline or _fetch(home.settings, folder, options, Extent(), as_json)
        require_fetch(folder)
        done = import_account(folder, home.settings, home.database)
        inventory = read_inventory(folder, _FETCH)
        registered = _register(inventory, home, done) if options.register else []
        if options.html:
            write_page(inventory, options.html)
        if as_json:
            imported = {"file_ids": done.file_ids, "new_files": done.new_files, "completions": done.completions}
            values = {"imported": imported, "not_imported": done.lost, "registered": registered}
            print_json(inventory_json(inventory) | values | {"next": list(next_commands(inventory, folder))})
        else:
            _show(inventory)
            _show_import(done, registered, folder)
            _show_next(inventory, folder)
    if not complete:
        raise typer.Exit(INCOMPLETE)


def show_inventory(options: AccountOptions, as_json: bool) -> None:
    """Reads the account's lists into the folder, and prints the inventory.

    Raises:
        typer.Exit: with status 3 if a list was refused or failed.
    """
    with open_home() as home, _errors():
        folder = options.folder or home.settings.home / FOLDER
        complete = options.offline or _fetch(home.settings, folder, options, INVENTORY, as_json)
        require_fetch(folder)
        inventory = read_inventory(folder, _FETCH)
        if options.html:
            write_page(inventory, options.html)
        if as_json:
            print_json(inventory_json(inventory) | {"next": list(next_commands(inventory, folder))})
        else:
            _show(inventory)
            _show_next(inventory, folder)
            if options.html:
                console().print(f"The page is {options.html}", markup=False, soft_wrap=True)
    if not complete:
        raise typer.Exit(INCOMPLETE)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except Stop as stop:
        raise ParleyError(str(stop)) from None
    except KeyboardInterrupt:
        raise ParleyError("Stopped. Run the same command again to continue.") from None


def _account(settings: "Settings") -> Account:
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
    return replace(environment_account(key), base_url=settings.openai_base_url)


def _kinds(options: AccountOptions) -> tuple[str, ...]:
    if options.only is None:
        return Extent().kinds
    try:
        return parse_kinds(options.only)
    except ValueError as error:
        raise Invalid(f"--only is {options.only!r}: {error}.", param="only") from error


def _fetch(settings: "Settings", folder: Path, options: AccountOptions, extent: Extent, as_json: bool) -> bool:
    extent = replace(extent, kinds=_kinds(options))
    return fetch_account(_account(settings), folder, extent, Progress(quiet=as_json))


def _verify(folder: Path, as_json: bool) -> None:
    damaged = verify_folder(folder)
    if as_json:
        print_json({"damaged": damaged})
    else:
        console().print("\n".join(damaged) or "All copies match their checksums.", markup=False, soft_wrap=True)
    if damaged:
        raise typer.Exit(INCOMPLETE)


def _dry_run(settings: "Settings", options: AccountOptions, as_json: bool) -> None:
    progress = Progress(quiet=as_json)
    lines = list(dry_run_lines(Client(_account(settings), progress), _kinds(options), progress))
    if as_json:
        print_json({"would_fetch": lines})
    else:
        console().print("\n".join(lines), markup=False, soft_wrap=True)


def _register(inventory: Inventory, home: Home, done: HomeImport) -> list[str]:
    """Registers the fine-tunes that OpenAI still lists, under their own names; the names of all that are registered."""
    from train.clouds.openai import OpenAICloud
    from train.clouds.registration import FineTune, register_hosted

    cloud, names = OpenAICloud(home.settings), []
    for found in inventory.fine_tunes:
        if not found.model or not found.listed:
            continue
        try:
            fine_tune = FineTune(found.model, found.base, found.shutdown, found.job)
            names.append(register_hosted(fine_tune, cloud, home.registry).spec.id)
        except (Conflict, Invalid) as error:
            done.lost.append(f"{found.model}: {error}")
    return names


def _show(inventory: Inventory) -> None:
    _print(headline(inventory))
    if inventory.fine_tunes:
        console().print(fine_tune_table(inventory))
    for line in (more_rows(inventory), *summary_lines(inventory)):
        if line:
            _print(line)


def _show_import(done: HomeImport, registered: list[str], folder: Path) -> None:
    files = count_noun(len(done.file_ids), "file")
    _print(
        f"Here now: {files}, {done.new_files:,} of them new, and {count_noun(done.completions, 'stored completion')}."
    )
    _print(f"The ids of the files, at OpenAI and here: {folder / FILE_IDS}")
    for line in done.lost[:_MOST_LOST]:
        _print(f"Not imported: {line}")
    if len(done.lost) > _MOST_LOST:
        _print(f"… and {len(done.lost) - _MOST_LOST:,} more: --json lists them.")
    for name in registered:
        _print(f"Registered: {name}")


def _show_next(inventory: Inventory, folder: Path) -> None:
    commands = list(next_commands(inventory, folder))
    if commands:
        _print(
            "Next, the most urgent first (`parley rescue` offers to record the old model's answers and shows the cost):"
        )
    for command in commands[:_MOST_LOST]:
        _print(f"  {command}")
    if len(commands) > _MOST_LOST:
        _print(f"  … and {len(commands) - _MOST_LOST:,} more: --json lists them.")


def _print(text: str) -> None:
    console().print(printable(text, 2000) if not text.startswith("  ") else text, markup=False, soft_wrap=True)
