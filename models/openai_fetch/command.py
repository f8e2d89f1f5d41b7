"""The command line of a fetch: `python -m models.openai_fetch`, or the single file."""

from __future__ import annotations

import argparse
import io
import shlex
import sys
from contextlib import closing
from pathlib import Path

from models.openai_fetch.account import Account, Stop, environment_account
from models.openai_fetch.client import Client
from models.openai_fetch.dry_run import dry_run_lines
from models.openai_fetch.fetch import INVENTORY, Extent, Fetch
from models.openai_fetch.folder import MANIFEST, Folder, write_file
from models.openai_fetch.inventory import Inventory, read_inventory
from models.openai_fetch.inventory_html import inventory_page
from models.openai_fetch.inventory_text import text_lines
from models.openai_fetch.kinds import LISTS
from models.openai_fetch.progress import Progress
from models.openai_fetch.single_file import write_single_file

PAGE_FILE = "inventory.html"
DONE, STOPPED, USAGE, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130
_DESCRIPTION = """Copy what an OpenAI account holds into a folder: fine-tuning jobs with their events and checkpoints,
files, stored chat completions, evals with their runs, batches, and the list of models. Only GET requests are sent, so
nothing changes at OpenAI. Run the same command again to continue or to add what is new."""
_NOTES = """The key is read from OPENAI_API_KEY; OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID, HTTPS_PROXY,
NO_PROXY and SSL_CERT_FILE are read too. Exit status: 0 everything that OpenAI still has is here; 1 stopped by an error;
2 wrong arguments; 3 some objects were refused or failed, or --verify found damage; 130 interrupted."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status. An error is one line on standard error."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # names of files may have characters that a terminal has not
    try:
        return _run(options)
    except Stop as stop:
        print(stop, file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to continue.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe (`| head`) has closed it
        sys.stderr.close()
        return 141


def fetch_account(account: Account, path: Path, extent: Extent, progress: Progress, threads: int = 4) -> bool:
    """Fetches an account into a folder.

    Returns:
        Whether everything that OpenAI still has is here.

    Raises:
        Stop: the key is refused, the network is down, or the disk is full.
    """
    client = Client(account, progress)
    with closing(Folder(path)) as folder:
        Fetch(client, folder, progress, threads=threads).carry_out(extent)
        return not folder.problems


def verify_folder(path: Path) -> list[str]:
    """A line for each copy that is damaged or gone; the next fetch replaces them. Offline.

    Raises:
        Stop: the folder has no manifest.
    """
    require_fetch(path)
    with closing(Folder(path)) as folder:
        return [f"{record['path']}: {record['reason']}" for record in folder.verify()]


def write_page(inventory: Inventory, target: Path) -> None:
    """Writes the inventory as a page."""
    write_file(target, [inventory_page(inventory).encode("utf-8", "replace")])


def require_fetch(path: Path) -> None:
    """Raises Stop if nothing was fetched into a folder."""
    if not (path / MANIFEST).is_file():
        raise Stop(f"Nothing is fetched in {path}: there is no {MANIFEST}.")


def parse_kinds(text: str) -> tuple[str, ...]:
    """The kinds in a list with commas. Raises ValueError."""
    kinds = tuple(kind.strip() for kind in text.split(",") if kind.strip())
    if not kinds or not set(kinds) <= LISTS.keys():
        raise ValueError(f"use one or more of {', '.join(LISTS)}, separated by commas")
    return kinds


def _run(options: argparse.Namespace) -> int:
    if options.pack:
        write_single_file(options.pack)
        print(f"{options.pack} is the whole program. Run it with: python3 {options.pack} --out FOLDER")
        return DONE
    if options.verify:
        damaged = verify_folder(options.out)
        print("\n".join(damaged) or "All copies match their checksums.")
        return INCOMPLETE if damaged else DONE
    complete = True
    if not options.offline:
        account = environment_account(_read_key(options.key_file))
        progress = Progress()
        if options.dry_run:
            for line in dry_run_lines(Client(account, progress), options.only, progress):
                print(line)
            return DONE
        parts = INVENTORY.parts if options.inventory else Extent().parts
        extent = Extent(options.only, parts, ended_only=options.inventory)
        complete = fetch_account(account, options.out, extent, progress, options.threads)
    require_fetch(options.out)
    inventory = read_inventory(options.out, _fetch_command(options.out))
    print("\n".join(text_lines(inventory)))
    page = options.html or options.out / PAGE_FILE
    write_page(inventory, page)
    print(f"The inventory as a page: {page}")
    return DONE if complete else INCOMPLETE


def _fetch_command(folder: Path) -> str:
    program = "-m models.openai_fetch" if Path(__file__).is_file() else shlex.quote(sys.argv[0])
    return f"python3 {program} --out {shlex.quote(str(folder))}"


def _read_key(path: str | None) -> str | None:
    """The key in a file, or on standard input for "-"; None without a file."""
    if path is None:
        return None
    try:
        return sys.stdin.readline() if path == "-" else Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(f"The key cannot be read from {path}: {getattr(error, 'strerror', 'it is not text')}.") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="openai_fetch", description=_DESCRIPTION, epilog=_NOTES)
    add = parser.add_argument
    add("--out", type=Path, default=Path("openai-account"), metavar="FOLDER", help="default: openai-account")
    add("--only", type=_kinds, default=tuple(LISTS), metavar="KINDS", help=f"default: {','.join(LISTS)}")
    add("--html", type=Path, metavar="FILE", help="the inventory's page; default: inventory.html in the folder")
    add("--key-file", metavar="FILE", help="a file with the key, - for standard input")
    add("--threads", type=int, choices=range(1, 33), default=4, metavar="N", help="requests at a time; default: 4")
    instead = parser.add_mutually_exclusive_group().add_argument
    instead("--dry-run", action="store_true", help="only count what there is; nothing is written")
    instead("--inventory", action="store_true", help="fetch the lists and checkpoints only, no contents")
    instead("--offline", action="store_true", help="show the inventory of what is fetched already")
    instead("--verify", action="store_true", help="compare all copies with their checksums; needs no network")
    instead("--pack", type=Path, metavar="FILE", help="write this program as one file, for another machine")
    return parser


def _kinds(text: str) -> tuple[str, ...]:
    try:
        return parse_kinds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
