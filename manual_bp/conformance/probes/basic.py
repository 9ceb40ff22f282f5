"""The example call itself, with other cotangents, other layouts and other frozen inputs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from manual_bp.conformance.bench import Bench
from manual_bp.conformance.layouts import COTANGENT_LAYOUTS, INPUT_LAYOUTS
from manual_bp.conformance.probe import Case, case, probe

__all__ = ["cotangents", "example", "frozen", "layouts"]


@probe("example")
def example(bench: Bench) -> Iterator[Case]:
    """Outputs and gradients of the example call, under random cotangents.

    A cotangent of ones hides whatever sums to zero: nn-zero-to-hero#45, Liger-Kernel#968.
    """
    yield case("as given", bench.call, strict_none=True)


@probe("frozen inputs")
def frozen(bench: Bench) -> Iterator[Case]:
    """Every subset of inputs that require a gradient.

    A backward that takes for granted that all do returns gradients in the wrong places, or trips
    over a None that it saved itself.
    """
    hint = "Look at ctx.needs_input_grad: which gradient is computed, and in whose place returned?"
    needs = sorted(bench.call.needs)
    sizes = range(len(needs)) if len(needs) <= 3 else (0, 1, len(needs) - 1)
    for size in sizes:
        for subset in combinations(needs, size):
            names = ", ".join(bench.name(i) for i in subset) or "nothing"
            yield case(f"only {names} requires a gradient", bench.call.with_needs(subset), hint)


@probe("cotangents")
def cotangents(bench: Bench) -> Iterator[Case]:
    """Cotangents in every layout, of every size, with zeros and one-hot.

    A kernel that assumes contiguous gradients reads the wrong numbers after a transpose or an
    expand: pytorch#194719, pytorch#195210, flash-attention#355.
    """
    hint = "The backward depends on the strides of grad_output: index it, or make it contiguous."
    for layout in COTANGENT_LAYOUTS:
        yield case(f"cotangent {layout}", bench.call, hint, cotangent=layout)


@probe("layouts")
def layouts(bench: Bench) -> Iterator[Case]:
    """Inputs in every layout: transposed, strided, expanded, with a storage offset.

    Code that walks through memory instead of through indices is right for contiguous inputs only:
    pytorch#194719, Liger-Kernel#1375.
    """
    hint = "The result depends on the strides of an input: index it, or make it contiguous."
    for layout in INPUT_LAYOUTS:
        call = bench.call.with_layout(layout)
        if call.layouts != bench.call.layouts:
            yield case(f"inputs {layout}", call, hint)
