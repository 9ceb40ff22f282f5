"""This library's own layers, proved with the same checker."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial, wraps
from typing import Any

import torch

from manual_bp.conformance.check import check
from manual_bp.conformance.report import Report
from manual_bp.conformance.target import Refused
from manual_bp.spec import Draw, Spec
from manual_bp.wording import counted

__all__ = ["LayerResult", "check_layer", "check_layers", "choose"]


#: What every sample is put to; a layer's first sample goes through all probes.
FEW = frozenset(
    {"example", "frozen inputs", "cotangents", "layouts", "empty", "second order", "aliases"}
)


@dataclass(frozen=True)
class LayerResult:
    """What became of one layer.

    Attributes:
        name: Of the layer.
        samples: How many calls were checked.
        cases: How many variations of them were compared.
        failed: For each call that failed, its label and the report.
        seconds: How long it took.
    """

    name: str
    samples: int
    cases: int
    failed: tuple[tuple[str, Report], ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing was found in any sample."""
        return not self.failed

    def to_dict(self) -> dict[str, Any]:
        """The result, ready for JSON."""
        return {
            "layer": self.name,
            "passed": self.passed,
            "samples": self.samples,
            "cases": self.cases,
            "seconds": round(self.seconds, 3),
            "failed": [{"sample": label, **report.to_dict()} for label, report in self.failed],
        }


def choose(names: Sequence[str]) -> list[str]:
    """The names of the layers to check, all of them by default.

    Raises:
        Refused: for a name that no layer has, with the nearest one.
    """
    known = list(_specs())
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = (
                f"; did you mean {near[0]!r}?"
                if near
                else "; `python -m manual_bp list` shows them, and a function of your own is "
                "path/to/file.py:Name or package.module:Name"
            )
            raise Refused(f"manual_bp has no layer {name!r}{meant}")
    return list(names) or known


def _specs() -> dict[str, Spec]:
    from manual_bp.layers import SPECS

    return {spec.name: spec for spec in SPECS}


def check_layer(
    spec: Spec, *, seed: int = 0, device: str = "cpu", thorough: bool = False, **options: Any
) -> LayerResult:
    """Check every sample of a layer.

    Args:
        spec: The layer.
        seed: Of the samples and of the checks.
        device: Where the samples are.
        thorough: Whether every sample goes through all probes, and not the first one only.
        options: As in :func:`manual_bp.conformance.check`.
    """
    start = time.perf_counter()
    samples = cases = 0
    failed = []
    left_out = {*options.pop("skip", ()), *spec.skip}
    manual, native = (_on_a_copy(f) if spec.modifies else f for f in (spec.manual, spec.native))
    asked = options.pop("probes", None)
    for sample in spec.samples(Draw(seed, device=device)):
        report = check(
            manual,
            native,
            *sample.args,
            kwargs=sample.kwargs,
            seed=seed,
            name=spec.name,
            probes=asked or (None if thorough or not samples else FEW),
            skip=left_out - set(asked or ()),
            **options,
        )
        samples += 1
        cases += sum(probe.cases for probe in report.probes)
        if not report.passed:
            failed.append((str(sample), report))
    return LayerResult(spec.name, samples, cases, tuple(failed), time.perf_counter() - start)


def _on_a_copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """For a function that writes into its first argument: a leaf cannot be written to."""

    @wraps(function)
    def copied(x: Any, *args: Any, **kwargs: Any) -> Any:
        return function(x.clone(), *args, **kwargs)

    return copied


def check_layers(
    names: Sequence[str], settings: dict[str, Any], *, jobs: int = 0, show: bool = True
) -> list[LayerResult]:
    """Check layers, in several processes, and print a line for each as it is done.

    Args:
        names: Of the layers.
        settings: As for :func:`check_layer`.
        jobs: Processes; 0 for one a processor.
        show: Whether to print.
    """
    start = time.perf_counter()
    width = max(len(name) for name in names)
    results = []
    for result in _each(names, settings, jobs or os.cpu_count() or 1):
        results.append(result)
        if show:
            _print(result, width)
    if show:
        wrong = [result for result in results if not result.passed]
        for result in wrong:
            for label, report in result.failed[:2]:
                print(f"\n{result.name}: {label}\n{report}")
        samples, cases = (sum(getattr(r, what) for r in results) for what in ("samples", "cases"))
        verdict = f"{len(wrong)} wrong" if wrong else "nothing found"
        of = f"{counted(len(results), 'layer')} of manual_bp, {counted(samples, 'sample')}"
        print(f"\n{of}, {counted(cases, 'case')}: {verdict} ({time.perf_counter() - start:.0f} s)")
    return results


def _each(names: Sequence[str], settings: dict[str, Any], jobs: int) -> Iterator[LayerResult]:
    work = partial(_check_by_name, settings=settings)
    if jobs == 1 or len(names) < 3 or settings.get("device", "cpu") != "cpu":
        yield from map(work, names)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        yield from pool.map(work, names)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _check_by_name(name: str, settings: dict[str, Any]) -> LayerResult:
    return check_layer(_specs()[name], **settings)


def _print(result: LayerResult, width: int) -> None:
    verdict = "passed" if result.passed else f"FAILED ({counted(len(result.failed), 'sample')})"
    if sys.stdout.isatty():
        verdict = f"\033[{32 if result.passed else 31}m{verdict}\033[0m"
    print(
        f"{result.name:<{width}}  "
        f"{counted(result.samples, 'sample', '3'):<11}  {counted(result.cases, 'case', '5'):<11}  "
        f"{result.seconds:>5.1f} s  {verdict}",
        flush=True,
    )
