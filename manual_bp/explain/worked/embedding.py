"""Embedding: a row is looked up; it gets the blame of every place where it was."""

from __future__ import annotations

from manual_bp.explain.worked.example import Example, Worked, name_at, strongest

__all__ = ["embedding"]


def embedding(example: Example) -> Worked:
    """The element of one row, and the places that blame it."""
    index, w = example.need("input"), example.need("weight")
    *place, j = example.at
    row = int(index.value[tuple(place)])
    lines = Worked(
        [f"{name_at('y', example.at)} = W[{row}, {j}] = {example.bare(w.value[row, j])}"]
    )
    if w.gradient is None or example.y.gradient is None:
        return lines
    row, j = strongest(w.gradient)
    blames = example.y.gradient[index.value == row][:, j]
    sums = example.sums(blames)
    lines.backward.append(f"dW[{row}, {j}] = {sums} = {example.bare(w.gradient[row, j])}")
    return lines
