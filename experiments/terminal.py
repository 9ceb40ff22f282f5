"""What a run leaves on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from experiments.study import Ended, Findings, Options, Study, Table, counted

_COLOURS = {True: "green", False: "red", None: "yellow"}


def close(
    console: Console,
    study: Study,
    options: Options,
    findings: Findings,
    page: Path,
    ran: int,
    seconds: float,
) -> None:
    """Print the table, the agreement, the verdicts, and where to look further."""
    _print(console, findings.tables[0])
    tell(console, f"[{_COLOURS[findings.agrees]}]{escape(findings.agreement)}[/]")
    for verdict in findings.verdicts:
        word = f"[{_COLOURS[verdict.holds]}]{verdict.word}[/]"
        tell(console, f"{word}: {escape(verdict.prediction.claim)} ({escape(verdict.measured)})")
    for warning in findings.warnings:
        tell(console, f"[yellow]note[/]: {escape(warning)}")
    tell(console, "")
    if ran:
        tell(console, f"{ran} {'trial' if ran == 1 else 'trials'} in {seconds:.0f} s")
    tell(console, f"report       {escape(str(page))}")
    if study.watched:
        logs = page.parent / "tensorboard"
        tell(console, f"TensorBoard  tensorboard --logdir {escape(str(logs))}")


def summary(console: Console, ended: Sequence[Ended]) -> None:
    """Print a line for each study: its verdicts, the agreement, its time or why there is none."""
    rows = []
    for one in ended:
        if one.findings is None:
            rows.append((one.name, "-", "-", "-"))
            continue
        words = counted(verdict.word for verdict in one.findings.verdicts)
        agreed = {True: "agree", False: "PART", None: "not compared"}[one.findings.agrees]
        rows.append((one.name, words, agreed, f"{one.seconds:.0f} s" if one.seconds else ""))
    columns = ("study", "verdicts", "manual and autograd", "time")
    _print(console, Table(f"{len(ended)} studies", columns, rows))
    for one in ended:
        if one.reason:
            tell(console, f"[red]{one.name}[/]: {escape(one.reason)}")


def tell(console: Console, text: str) -> None:
    """Print one line as it is; the terminal, not this program, breaks it."""
    console.print(text, highlight=False, soft_wrap=True)


def _print(console: Console, table: Table) -> None:
    plain = not console.is_terminal
    grid = Grid(
        title=escape(table.title),
        caption=escape(table.note),
        title_justify="left",
        caption_justify="left",
        box=None if plain else box.SIMPLE_HEAD,
        pad_edge=False,
        title_style="" if plain else "bold",
        caption_style="" if plain else "dim",
    )
    for i, column in enumerate(table.columns):
        grid.add_column(escape(column), justify="left" if i == 0 else "right", no_wrap=plain)
    for row in table.rows:
        grid.add_row(*map(escape, row))
    # A pipe has no width of its own; a table in it must not be folded at 80 columns.
    console.print(grid, highlight=False, width=160 if plain else None)
