"""How counts, prices, plans and advice look in a terminal: Rich tables that fit 60 columns. It computes nothing."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from train.planning.pricing import provider_name
from train.run.progress import duration

if TYPE_CHECKING:
    from train.data.advising import Advice
    from train.data.synthesis import Synthesis
    from train.planning.counting import Bin, Counts, Spread
    from train.planning.plan import Against, Plan
    from train.planning.pricing import Quote

_BAR = 24
_COLOURS = {True: "green", False: "red"}


def show_counts(console: Console, counts: "Counts") -> None:
    """Totals, percentiles, a histogram, and what is over the limit."""
    table = Table("tokens", "all", "learnt", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    whole, learnt = counts.spread, counts.learnt_spread
    table.add_row("together", f"[bold]{counts.tokens:,}[/bold]", f"[bold]{counts.learnt_tokens:,}[/bold]")
    for name, one, other in _percentiles(whole, learnt):
        table.add_row(name, one, other)
    console.print(f"{counts.examples:,} examples for [bold]{escape(counts.model)}[/bold]")
    console.print(table)
    console.print()
    _show_histogram(console, counts.histogram)
    if counts.way == "estimate":
        console.print(f"[yellow]These are estimates:[/yellow] {escape(counts.how)}.")
    else:
        console.print(f"[dim]Counted by {escape(counts.how)}.[/dim]")
    if counts.limit is None:
        console.print("[dim]No limit is known for this model; --limit holds the examples against one.[/dim]")
    elif counts.over_limit:
        lines = ", ".join(str(length.line) for length in counts.over_limit[:8])
        more = " …" if len(counts.over_limit) > 8 else ""
        console.print(
            f"[yellow]{len(counts.over_limit):,} examples are over the limit of {counts.limit:,} tokens[/yellow] "
            f"(lines {lines}{more}), by {counts.beyond_limit:,} tokens: a provider truncates them, and a local run "
            "leaves them out."
        )
    else:
        console.print(f"[green]None is over the limit of {counts.limit:,} tokens.[/green]")
    if counts.refused:
        console.print(f"[yellow]{len(counts.refused):,} lines are refused by the chat template.[/yellow]")


def _percentiles(whole: "Spread", learnt: "Spread") -> list[tuple[str, str, str]]:
    names = {"smallest": "shortest", "p5": "5 %", "median": "median", "mean": "mean", "p95": "95 %", "p99": "99 %"}
    rows = [(said, getattr(whole, name), getattr(learnt, name)) for name, said in names.items()]
    rows.append(("longest", whole.largest, learnt.largest))
    return [(said, f"{one:,.0f}", f"{other:,.0f}") for said, one, other in rows]


def _show_histogram(console: Console, bars: "Sequence[Bin]") -> None:
    most = max((bar.examples for bar in bars), default=1)
    table = Table("tokens", "examples", "", box=None, header_style="bold", pad_edge=False)
    table.columns[0].justify = table.columns[1].justify = "right"
    for bar in bars:
        reach = f"{bar.low:,} –" if bar.high is None else f"{bar.low:,} – {bar.high - 1:,}"
        length = bar.examples * _BAR / most
        table.add_row(reach, f"{bar.examples:,}", "█" * int(length) + ("▌" if length % 1 >= 0.5 else ""))
    console.print(table)
    console.print()


def show_quotes(console: Console, quotes: "Sequence[Quote]", left_out: "Sequence[str]" = ()) -> None:
    """A row for each model; then rules, warnings and sources, each once."""
    table = Table("model", "epochs", "billed tokens", "training", "1,000 answers", box=None, header_style="bold")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for quote in quotes:
        sign = "≈ " if quote.estimated else ""
        use = "–" if quote.per_thousand_answers is None else _dollars(quote.per_thousand_answers, quote.estimated)
        name = f"{escape(quote.model)}\n[dim]{quote.provider}, {quote.kind}[/dim]"
        price = f"[bold]{_dollars(quote.usd, quote.estimated)}[/bold]"
        table.add_row(name, f"{quote.epochs:g}", f"{sign}{quote.billed_tokens:,}", price, use)
    console.print(table)
    first = quotes[0]
    console.print(
        f"\n{first.examples:,} examples of {first.tokens / first.examples:,.0f} tokens. Training is tokens × epochs × "
        "price; an answer in use is taken to be as long as those of the data."
    )
    said: dict[tuple[str, str], list[Quote]] = defaultdict(list)
    for quote in quotes:
        plural = "" if quote.epochs == 1 else "s"
        said["dim", f"{quote.epochs:g} epoch{plural}: {quote.epochs_rule}"].append(quote)
        if quote.over_limit:
            wrong = f"{quote.over_limit:,} examples are over the training context and are {quote.over_context}"
            said["yellow", wrong].append(quote)
        if quote.estimated:
            said["yellow", f"The tokens are {quote.counted}"].append(quote)
        for warning in quote.warnings:
            said["yellow", warning].append(quote)
        if quote.notes:
            said["dim", quote.notes.rstrip(".")].append(quote)
    for (colour, text), about in said.items():
        console.print(f"[{colour}]• {escape(text + _whose(about, quotes))}.[/{colour}]")
    for reason in left_out:
        console.print(f"[dim]• {escape(reason)}.[/dim]")


def _whose(about: "Sequence[Quote]", quotes: "Sequence[Quote]") -> str:
    """Whom a line is about: nothing where it is all, a provider where it is all of it, else the models."""
    if len(about) == len(quotes):
        return ""
    provider = about[0].provider
    if [quote for quote in quotes if quote.provider == provider] == list(about):
        return f" ({provider_name(provider)})"
    return f" ({', '.join(quote.model.rpartition('/')[2] for quote in about)})"


def _dollars(amount: float, estimated: bool = False) -> str:
    if 0 < amount < 0.01:
        return "< $0.01"
    return f"{'≈ ' if estimated else ''}${amount:,.2f}"


def show_plan(console: Console, plan: "Plan") -> None:
    """A column for each way of tuning, part by part; the verdict; how the time was found."""
    names = {"lora": "LoRA", "qlora": "QLoRA", "full": "full"}
    table = Table("", *(names[way.need.tune] for way in plan.ways), box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for part in ("weights", "gradients", "optimiser", "activations", "logits", "program"):
        table.add_row(part, *(gigabytes(getattr(way.need, part)) for way in plan.ways))
    table.add_row("memory", *(f"[bold]{gigabytes(way.need.total)}[/bold]" for way in plan.ways))
    table.add_row("parameters learnt", *(f"{way.need.trained / 1e6:,.2f} M" for way in plan.ways))
    table.add_row("time", *(f"[bold]{duration(way.seconds)}[/bold]" for way in plan.ways))
    table.add_row("tokens/s", *(f"{way.tokens_per_s:,.{0 if way.tokens_per_s >= 10 else 2}f}" for way in plan.ways))
    said = (f"[{_COLOURS[way.fits]}]{'fits' if way.fits else 'does not fit'}[/]" for way in plan.ways)
    table.add_row("verdict", *said)
    machine = plan.machine
    console.print(
        f"[bold]{escape(plan.base)}[/bold] ({plan.shape.parameters / 1e6:,.1f} M parameters) on "
        f"{escape(machine.name)}, {gigabytes(machine.free)} of {gigabytes(machine.memory)} free"
    )
    console.print(
        f"{plan.examples:,} examples, {plan.tokens:,} tokens, {plan.epochs:g} epochs in {plan.steps:,} steps "
        f"of {plan.batch_size}, {plan.step.rows} at once of up to {plan.step.longest:,} tokens; {plan.precision}\n"
    )
    console.print(table)
    for way in plan.ways:
        if way.advice:
            console.print(f"[yellow]• {names[way.need.tune]} would fit with: {escape('; '.join(way.advice))}.[/yellow]")
    console.print(f"[dim]• Time {escape(plan.speed.how)}; the other ways by their share of the work.[/dim]")
    console.print("[dim]• Memory by formula (train/planning/needs.py names the sources); 10 % stay free.[/dim]")


def show_against(console: Console, against: "Against") -> None:
    """Planned beside used."""
    table = Table(f"run {escape(against.run)}", "planned", "used", "used / planned", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    used = "not recorded" if against.memory_used is None else gigabytes(against.memory_used)
    ratio = "–" if against.memory_ratio is None else f"{against.memory_ratio:.2f}"
    table.add_row(f"memory ({against.tune})", gigabytes(against.memory_planned), used, ratio)
    times = (duration(against.seconds_planned), duration(against.seconds_used))
    table.add_row("time", *times, f"{against.seconds_ratio:.2f}")
    table.add_row("tokens", f"{against.tokens_planned:,}", f"{against.tokens_used:,}", f"{against.tokens_ratio:.2f}")
    console.print(table)


def show_synthesis(console: Console, found: "Synthesis") -> None:
    """What came of it, in numbers."""
    counted = found.counted
    colour = "green" if found.ended == "enough" else "yellow"
    console.print(f"[{colour}]{escape(found.summary)}[/{colour}]")
    console.print(
        f"{counted.asked:,} requests; thrown away: {counted.copies:,} copies, {counted.near_copies:,} near copies, "
        f"{counted.unfit:,} with errors; {counted.unreadable:,} answers without an example, {counted.failed:,} failed"
    )
    if found.counted.made:
        console.print(f"[bold]{escape(str(found.path))}[/bold]  Read some of them before you train on them.")


def show_advice(console: Console, advice: "Advice") -> None:
    """The advice, its reasons, what would change it, and what was not said."""
    beside = f", with [bold]{' and '.join(advice.beside)}[/bold] beside it" if advice.beside else ""
    close = " [dim](a close call)[/dim]" if advice.close else ""
    console.print(f"Begin with [bold green]{advice.choice}[/bold green]{beside}.{close}\n")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    for choice in sorted(advice.scores, key=lambda name: -advice.scores[name]):
        table.add_row(f"[bold]{advice.scores[choice]:+d}[/bold]", f"[bold]{choice}[/bold]")
        for reason in advice.reasons:
            points = {str(name): value for name, value in reason.points.items()}.get(choice, 0)
            if points:
                table.add_row(
                    f"{points:+d}", f"{escape(reason.reason)} [dim](would change with: {escape(reason.change)})[/dim]"
                )
    console.print(table)
    if advice.unanswered:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in advice.unanswered)
        console.print(f"\n[dim]Not said: {flags}. More answers make better advice.[/dim]")
    console.print("[dim]Rules, not measurements: compare two candidates blind before you decide.[/dim]")


def gigabytes(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
