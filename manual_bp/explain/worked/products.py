"""Products of matrices: sums of products of two numbers."""

from __future__ import annotations

from torch import Tensor

from manual_bp.explain.worked.example import Example, Place, Worked, name_at, strongest

__all__ = ["linear", "matmul"]


def linear(example: Example) -> Worked:
    """One output; and an element of dx, dW and db."""
    x, w, b = example.need("input"), example.need("weight"), example.given("bias")
    y, at = example.y, example.at
    if w.value.dim() != 2 or not at:
        raise IndexError
    *n, o = at
    products = example.products(x.value[tuple(n)], w.value[o])
    plus = f" + {example.show(b.value[o])}" if b is not None else ""
    lines = Worked([f"{name_at('y', at)} = {products}{plus} = {example.bare(y.value[at])}"])
    g = y.gradient
    if g is None:
        return lines
    if x.gradient is not None:
        where = strongest(x.gradient[tuple(n)])
        sums = example.products(g[tuple(n)], w.value[:, where[0]])
        place = name_at("dx", (*n, *where))
        lines.backward.append(f"{place} = {sums} = {example.bare(x.gradient[(*n, *where)])}")
    rows, blames = x.value.flatten(0, -2), g.flatten(0, -2)
    if x.value.dim() == 1:
        rows, blames = x.value[None], g[None]
    if w.gradient is not None:
        (i,) = strongest(w.gradient[o])
        sums = example.products(blames[:, o], rows[:, i])
        lines.backward.append(f"dW[{o}, {i}] = {sums} = {example.bare(w.gradient[o, i])}")
    if b is not None and b.gradient is not None:
        sums = example.sums(blames[:, o])
        lines.backward.append(f"db[{o}] = {sums} = {example.bare(b.gradient[o])}")
    return lines


def matmul(example: Example) -> Worked:
    """One output; and an element of dx and dy."""
    x, w = (s for s in example.operation.inputs if s.name in ("x", "y"))
    z, at = example.y, example.at
    if x.value.dim() < 2 or w.value.dim() < 2:
        raise IndexError
    batch: Place = at[:-2]
    i, j = at[-2:]
    left = x.value[(*_within(batch, x.value), i)]
    right = w.value.mT[(*_within(batch, w.value), j)]
    sums = example.products(left, right)
    if "mat1" == x.argument:
        c = example.operation.inputs[0]
        sums = f"{example.show(c.value.expand(z.shape)[at])} + {sums}"
    lines = Worked([f"{name_at(z.name, at)} = {sums} = {example.bare(z.value[at])}"])
    g = z.gradient
    if g is None:
        return lines
    if x.gradient is not None and x.value.dim() == z.value.dim():
        (k,) = strongest(x.gradient[(*batch, i)])
        sums = example.products(g[(*batch, i)], w.value[(*_within(batch, w.value), k)])
        place = name_at("dx", (*batch, i, k))
        lines.backward.append(f"{place} = {sums} = {example.bare(x.gradient[(*batch, i, k)])}")
    if w.gradient is not None and w.value.dim() == z.value.dim():
        (k,) = strongest(w.gradient.mT[(*batch, j)])
        sums = example.products(x.value.mT[(*_within(batch, x.value), k)], g.mT[(*batch, j)])
        place = name_at("dy", (*batch, k, j))
        lines.backward.append(f"{place} = {sums} = {example.bare(w.gradient[(*batch, k, j)])}")
    return lines


def _within(batch: Place, value: Tensor) -> Place:
    """The place of a batch in a tensor that may have fewer axes, or axes of size 1."""
    own = value.shape[:-2]
    used = list(batch)[len(batch) - len(own) :]
    return tuple(0 if size == 1 else k for k, size in zip(used, own, strict=True))
