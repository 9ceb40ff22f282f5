"""How many wrong backwards each checker catches, and how many right ones it accuses.

python -m tests.conformance.score            print the tables
python -m tests.conformance.score --write    and put them into docs/checker.md
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from manual_bp.conformance import check
from manual_bp.conformance.settings import Settings
from manual_bp.spec import Draw

from .mutants import RIGHT, WRONG, Entry

PAGE = Path(__file__).parents[2] / "docs" / "checker.md"
BEGIN, END = "<!-- generated: score -->", "<!-- end: score -->"


def allclose(entry: Entry, seed: int) -> bool:
    """What is written first: both sides once, a random cotangent, torch.allclose."""
    torch.manual_seed(seed)
    args, others = entry.inputs(Draw(seed)), entry.inputs(Draw(seed))
    results = [_run(f, a, seed) for f, a in ((entry.manual, args), (entry.reference, others))]
    return all(
        (a is None and b is None) or (a is not None and b is not None and torch.allclose(a, b))
        for a, b in zip(*results, strict=True)
    )


def _run(function: Callable[..., object], args: tuple[object, ...], seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    result = function(*args)
    outputs = [y for y in (result if isinstance(result, (tuple, list)) else [result])]
    used = [y for y in outputs if isinstance(y, Tensor) and y.requires_grad]
    inputs = [x for x in args if isinstance(x, Tensor) and x.requires_grad]
    torch.manual_seed(seed + 1)
    grads = torch.autograd.grad(used, inputs, [torch.randn_like(y) for y in used],
                                allow_unused=True)  # fmt: skip
    return [*(y.detach() for y in used), *grads]


def by_gradcheck(entry: Entry, seed: int) -> bool:
    """torch.autograd.gradcheck, with its defaults."""
    return gradcheck(entry.manual, entry.inputs(Draw(seed)))


def by_gradcheck_fast(entry: Entry, seed: int) -> bool:
    """The same in fast mode."""
    return gradcheck(entry.manual, entry.inputs(Draw(seed)), fast_mode=True)


def by_gradgradcheck(entry: Entry, seed: int) -> bool:
    """torch.autograd.gradgradcheck, with its defaults."""
    return gradgradcheck(entry.manual, entry.inputs(Draw(seed)))


def by_check(entry: Entry, seed: int) -> bool:
    """This checker."""
    inputs = entry.inputs(Draw(seed))
    return check(
        entry.manual, entry.reference, *inputs, seed=seed, fail_fast=True, timeout=1.0
    ).passed


CHECKERS: dict[str, Callable[[Entry, int], bool]] = {
    "`torch.allclose`": allclose,
    "`gradcheck(fast_mode=True)`": by_gradcheck_fast,
    "`gradcheck`": by_gradcheck,
    "`gradgradcheck`": by_gradgradcheck,
    "`manual_bp.check`": by_check,
}


def accepts(checker: Callable[[Entry, int], bool], entry: Entry, seed: int) -> bool:
    torch.manual_seed(seed)
    settings = Settings()  # some mutants leave them changed, and would help the next one
    try:
        return checker(entry, seed)
    except Exception:
        return False
    finally:
        settings.put_back()


def score(seed: int = 0) -> tuple[dict[str, dict[str, bool]], dict[str, float]]:
    """Which checker accepts which entry, and how long each takes for all of them."""
    accepted: dict[str, dict[str, bool]] = {}
    seconds = {}
    for name, checker in CHECKERS.items():
        start = time.process_time()
        accepted[name] = {
            f"{kind}: {entry.name}": accepts(checker, entry, seed)
            for kind, entries in (("wrong", WRONG), ("right", RIGHT))
            for entry in entries
        }
        seconds[name] = time.process_time() - start
    return accepted, seconds


def tables(seed: int = 0) -> str:
    """The tables in Markdown."""
    accepted, seconds = score(seed)
    count = len(WRONG) + len(RIGHT)
    lines = [
        f"{len(WRONG)} wrong backwards ({sum(e.reported for e in WRONG)} of them from bug reports) "
        f"and {len(RIGHT)} right ones, seed {seed}.",
        "",
        "| Checker | wrong ones caught | right ones accused | ms a function |",
        "|---|--:|--:|--:|",
    ]
    for name, verdicts in accepted.items():
        caught = sum(not verdicts[f"wrong: {entry.name}"] for entry in WRONG)
        accused = sum(not verdicts[f"right: {entry.name}"] for entry in RIGHT)
        cost = 1000 * seconds[name] / count
        lines.append(f"| {name} | {caught} of {len(WRONG)} | {accused} | {cost:.0f} |")
    others = [name for name in accepted if name != "`manual_bp.check`"]
    together = sum(any(not accepted[n][f"wrong: {e.name}"] for n in others) for e in WRONG)
    alarms = sum(any(not accepted[n][f"right: {e.name}"] for n in others) for e in RIGHT)
    lines.append(f"| the first four together | {together} of {len(WRONG)} | {alarms} | |")
    lines += [
        "",
        "What each of them catches (x), one wrong backward a line:",
        "",
        "| Wrong backward | Source | " + " | ".join(accepted) + " |",
        "|---|---|" + ":-:|" * len(accepted),
    ]
    for entry in WRONG:
        marks = [" " if accepted[n][f"wrong: {entry.name}"] else "x" for n in accepted]
        source = entry.source.replace("|", "\\|")
        name = entry.name.replace("|", "\\|")
        lines.append(f"| {name} | {source} | {' | '.join(marks)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"put them into {PAGE.name}")
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = tables(options.seed)
    print(text)
    if options.write:
        page = PAGE.read_text()
        before, rest = page.split(BEGIN)
        _, after = rest.split(END)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    main()
