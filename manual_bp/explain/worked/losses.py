"""Losses, and the sums and means that end in one number."""

from __future__ import annotations

import torch

from manual_bp.explain.worked.example import TERMS, Example, Worked, name_at, strongest

__all__ = ["cross_entropy", "mean", "mse"]


def cross_entropy(example: Example) -> Worked:
    """The loss of each example; the probability minus the truth."""
    x, t = example.need("input"), example.need("target")
    if x.value.dim() != 2 or t.value.is_floating_point() or example.operation.settings:
        raise IndexError
    count = len(x.value)
    n, c = strongest(x.gradient) if x.gradient is not None else (0, int(t.value[0]))
    true = int(t.value[n])
    p = torch.softmax(x.value.double(), 1)
    losses = [f"log {example.bare(v)}" for v in p[torch.arange(count), t.value]]
    lines = Worked(
        [
            f"softmax(x)[{n}, {true}] = {example.bare(p[n, true])}",
            f"L = -({example.joined(losses, count)}) / {count} = {example.bare(example.y.value)}",
        ]
    )
    if x.gradient is not None and example.y.gradient is not None:
        lines.backward.append(
            f"dx[{n}, {c}] = {example.show(example.y.gradient)} * ({example.bare(p[n, c])} - "
            f"{int(c == true)}) / {count} = {example.bare(x.gradient[n, c])}"
        )
    return lines


def mse(example: Example) -> Worked:
    """The squared differences; twice a difference."""
    x, t = example.need("input"), example.need("target")
    if example.operation.settings or x.shape != t.shape:
        raise IndexError
    pairs = zip(x.value.flatten()[:TERMS], t.value.flatten()[:TERMS], strict=True)
    terms = [f"({example.bare(a)} - {example.show(b)})^2" for a, b in pairs]
    count = x.value.numel()
    sums, over = example.joined(terms, count), f" / {count}"
    sums = f"({sums})" if count > 1 else sums
    lines = Worked([f"L = {sums}{over if count > 1 else ''} = {example.bare(example.y.value)}"])
    if x.gradient is not None and example.y.gradient is not None:
        at = strongest(x.gradient)
        lines.backward.append(
            f"{name_at('dx', at)} = {example.show(example.y.gradient)} * 2 * "
            f"({example.bare(x.value[at])} - {example.show(t.value[at])}){over} = "
            f"{example.bare(x.gradient[at])}"
        )
    return lines


def mean(example: Example) -> Worked:
    """A sum or mean over everything; an equal share of the blame."""
    (x,) = example.operation.inputs
    if example.at:
        raise IndexError
    values, count = x.value.flatten(), x.value.numel()
    sums = example.joined([example.show(v) for v in values[:TERMS]], count)
    over = f" / {count}" if example.operation.name == "mean" else ""
    sums = f"({sums})" if over else sums
    lines = Worked([f"{example.y.name} = {sums}{over} = {example.bare(example.y.value)}"])
    if x.gradient is not None and example.y.gradient is not None:
        at = strongest(x.gradient)
        lines.backward.append(
            f"{name_at('dx', at)} = {example.bare(example.y.gradient)}{over} = "
            f"{example.bare(x.gradient[at])}"
        )
    return lines
