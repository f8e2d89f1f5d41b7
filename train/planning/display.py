"""How counts, prices and plans look in a terminal: Rich tables that fit 60 columns. It computes nothing."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.quantities import count_noun
from train.hyperparameters import UNITS
from train.planning.pricing import provider_name
from train.run.progress import duration

if TYPE_CHECKING:
    from train.data.lengths import Bin, Spread
    from train.planning.plan import Plan, RunComparison
    from train.planning.pricing import Quote
    from train.planning.token_counts import Counts

_BAR = 24
_OUTDATED = "*"  # behind a price
_METHODS = {"sft": "", "dpo": "DPO: ", "kto": "KTO: "}
_COLOURS = {True: "green", False: "red"}


def show_counts(console: Console, counts: "Counts") -> None:
    """Totals, percentiles, a histogram, and the examples over the limit."""
    table = Table("tokens", "all", "with loss", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    whole, learnt = counts.spread, counts.learnt_spread
    table.add_row("total", f"[bold]{counts.tokens:,}[/bold]", f"[bold]{counts.learnt_tokens:,}[/bold]")
    for cells in _percentiles(whole, learnt):
        table.add_row(*cells)
    console.print(f"{count_noun(counts.examples, 'example')} for [bold]{escape(counts.model)}[/bold]")
    console.print(table)
    console.print()
    _show_histogram(console, counts.histogram)
    if counts.way == "estimate":
        console.print(f"[yellow]The numbers are[/yellow] {escape(counts.how)}.")
    else:
        console.print(f"[dim]Counted by {escape(counts.how)}.[/dim]")
    if counts.limit is None:
        console.print("[dim]The limit of this model is unknown; set one with --limit.[/dim]")
    elif counts.over_limit:
        lines = ", ".join(str(length.line) for length in counts.over_limit[:8])
        more = " …" if len(counts.over_limit) > 8 else ""
        over = len(counts.over_limit)
        console.print(
            f"[yellow]{count_noun(over, 'example is', 'examples are')} over the limit of {counts.limit:,} tokens"
            f"[/yellow] ({'line' if over == 1 else 'lines'} {lines}{more}), by {counts.beyond_limit:,} tokens. A "
            "provider truncates such examples; a local run leaves them out."
        )
    else:
        console.print(f"[green]No example is over the limit of {counts.limit:,} tokens.[/green]")
    if counts.refused:
        console.print(
            f"[yellow]{count_noun(len(counts.refused), 'line')} cannot be rendered by the chat template.[/yellow]"
        )


def _percentiles(whole: "Spread", learnt: "Spread") -> list[tuple[str, str, str]]:
    names = {"smallest": "shortest", "p5": "5 %", "median": "median", "mean": "mean", "p95": "95 %", "p99": "99 %"}
    rows = [(label, getattr(whole, name), getattr(learnt, name)) for name, label in names.items()]
    rows.append(("longest", whole.largest, learnt.largest))
    return [(label, f"{tokens:,.0f}", f"{learnt_tokens:,.0f}") for label, tokens, learnt_tokens in rows]


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
    """A row for each model; then rules, warnings and notes, each once."""
    table = Table("model", "epochs", "billed tokens", "training", "1,000 answers", box=None, header_style="bold")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for quote in quotes:
        sign = "≈ " if quote.estimated else ""
        use = "–" if quote.per_thousand_answers is None else _dollars(quote.per_thousand_answers, quote.estimated)
        name = f"{escape(quote.model)}\n[dim]{quote.provider}, {quote.kind}[/dim]"
        price = f"[bold]{_dollars(quote.usd, quote.estimated)}[/bold]{_OUTDATED if quote.outdated else ''}"
        table.add_row(name, f"{quote.epochs:g}", f"{sign}{quote.billed_tokens:,}", price, use)
    console.print(table)
    first = quotes[0]
    console.print(
        f"\n{count_noun(first.examples, 'example')} of {first.tokens / first.examples:,.0f} tokens. Training costs "
        "tokens × epochs × price. Answers in use are assumed to be as long as those in the data."
    )
    notes: dict[tuple[str, str], list[Quote]] = defaultdict(list)
    for quote in quotes:
        plural = "" if quote.epochs == 1 else "s"
        notes["dim", f"{quote.epochs:g} epoch{plural}: {quote.epochs_rule}"].append(quote)
        if quote.over_limit:
            longer = count_noun(quote.over_limit, "example is", "examples are")
            longer = f"{longer} over the training context: {quote.over_context}"
            notes["yellow", longer].append(quote)
        notes["yellow" if quote.estimated else "dim", f"Tokens: {quote.counted}"].append(quote)
        for warning in quote.warnings:
            notes["yellow", warning].append(quote)
        if quote.notes:
            notes["dim", quote.notes.rstrip(".")].append(quote)
    if any(quote.outdated for quote in quotes):
        console.print(
            f"[yellow]{_OUTDATED} The price is over 90 days old. Set the current price with --price MODEL=USD.[/yellow]"
        )
    for (colour, text), concerned in notes.items():
        console.print(f"[{colour}]• {escape(text + _models(concerned, quotes))}.[/{colour}]")
    for reason in left_out:
        console.print(f"[dim]• {escape(reason)}.[/dim]")


def _models(concerned: "Sequence[Quote]", quotes: "Sequence[Quote]") -> str:
    """The models that a note concerns: "" for all quotes, the provider for all of a provider's, else the models."""
    if len(concerned) == len(quotes):
        return ""
    provider = concerned[0].provider
    if [quote for quote in quotes if quote.provider == provider] == list(concerned):
        return f" ({provider_name(provider)})"
    return f" ({', '.join(quote.model.rpartition('/')[2] for quote in concerned)})"


def _dollars(amount: float, estimated: bool = False) -> str:
    if 0 < amount < 0.01:
        return "< $0.01"
    return f"{'≈ ' if estimated else ''}${amount:,.2f}"


def show_plan(console: Console, plan: "Plan") -> None:
    """A column for each tuning method: memory part by part, time, and the verdict; then how the time was determined."""
    names = {"lora": "LoRA", "qlora": "QLoRA", "full": "full"}
    table = Table("", *(names[way.need.tune] for way in plan.ways), box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for part in ("weights", "gradients", "optimiser", "activations", "logits", "program"):
        table.add_row(part, *(gigabytes(getattr(way.need, part)) for way in plan.ways))
    table.add_row("memory", *(f"[bold]{gigabytes(way.need.total)}[/bold]" for way in plan.ways))
    table.add_row("trained parameters", *(f"{way.need.trained / 1e6:,.2f} M" for way in plan.ways))
    table.add_row("time", *(f"[bold]{duration(way.seconds)}[/bold]" for way in plan.ways))
    table.add_row("tokens/s", *(f"{way.tokens_per_s:,.{0 if way.tokens_per_s >= 10 else 2}f}" for way in plan.ways))
    verdicts = (f"[{_COLOURS[way.fits]}]{'fits' if way.fits else 'does not fit'}[/]" for way in plan.ways)
    table.add_row("verdict", *verdicts)
    machine = plan.machine
    console.print(
        f"[bold]{escape(plan.base)}[/bold] ({plan.shape.parameters / 1e6:,.1f} M parameters) on "
        f"{escape(machine.name)}, {gigabytes(machine.free)} of {gigabytes(machine.memory)} free"
    )
    examples = count_noun(plan.examples, UNITS[plan.method].removesuffix("s"))
    epochs = f"{plan.epochs:g} {'epoch' if plan.epochs == 1 else 'epochs'}"
    console.print(
        f"{_METHODS[plan.method]}{examples}, {plan.tokens:,} tokens, {epochs} in {count_noun(plan.steps, 'step')} "
        f"of {plan.batch_size}, {plan.step.rows} at a time, up to {plan.step.longest:,} tokens each; {plan.precision}\n"
    )
    console.print(table)
    for way in plan.ways:
        if way.advice:
            console.print(f"[yellow]• {names[way.need.tune]} would fit with {escape('; '.join(way.advice))}.[/yellow]")
    if plan.spread:
        colour = _COLOURS[plan.spread.fits]
        console.print(f"[{colour}]• --shard auto chooses {plan.spread.shard}: {escape(plan.spread.reason)}.[/{colour}]")
    console.print(
        f"[dim]• Time: {escape(plan.speed.how)}; the other methods are scaled by their share of the work"
        f"{_alone(plan)}.[/dim]"
    )
    console.print("[dim]• Memory: calculated (sources in train/planning/needs.py); 10 % is kept free.[/dim]")


def _alone(plan: "Plan") -> str:
    """A note on the time, which is that of one process."""
    return f"; it is for one process, and {plan.spread.processes} processes share the work" if plan.spread else ""


def show_comparison(console: Console, comparison: "RunComparison") -> None:
    """What was planned beside what was used."""
    table = Table(f"run {escape(comparison.run)}", "planned", "used", "used / planned", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    used = "not recorded" if comparison.memory_used is None else gigabytes(comparison.memory_used)
    ratio = "–" if comparison.memory_ratio is None else f"{comparison.memory_ratio:.2f}"
    table.add_row(f"memory ({comparison.tune})", gigabytes(comparison.memory_planned), used, ratio)
    times = (duration(comparison.seconds_planned), duration(comparison.seconds_used))
    table.add_row("time", *times, f"{comparison.seconds_ratio:.2f}")
    table.add_row(
        "tokens", f"{comparison.tokens_planned:,}", f"{comparison.tokens_used:,}", f"{comparison.tokens_ratio:.2f}"
    )
    console.print(table)


def gigabytes(size: int) -> str:
    """Bytes in GB or MB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
