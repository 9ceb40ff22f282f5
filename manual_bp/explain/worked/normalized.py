"""Softmax and the norms: a number beside those that share its row or channel."""

from __future__ import annotations

from manual_bp.explain.worked.elementwise import elementwise
from manual_bp.explain.worked.example import Example, Worked, name_at

__all__ = ["batch_norm", "layer_norm", "softmax"]


def softmax(example: Example) -> Worked:
    """One of the shares; its blame beside the mean blame of its row."""
    (x,) = example.operation.inputs
    axis = example.operation.settings.get("dim", -1)
    axis = axis if isinstance(axis, int) else -1
    y, at = example.y, example.at
    row = tuple(slice(None) if d == axis % y.value.dim() else k for d, k in enumerate(at))
    i = at[axis]
    terms = example.joined([f"e^{example.show(v)}" for v in x.value[row]], x.shape[axis])
    lines = Worked([f"{name_at('y', at)} = e^{example.show(x.value[row][i])} / ({terms})"])
    lines.forward[0] += f" = {example.bare(y.value[at])}"
    if y.gradient is not None and x.gradient is not None:
        dy, p = y.gradient[row], y.value[row]
        mean = example.products(dy, p)
        lines.backward.append(f"sum_j dy_j y_j = {mean} = {example.bare((dy * p).sum())}")
        lines.backward.append(
            f"{name_at('dx', at)} = {example.show(p[i])} * ({example.bare(dy[i])} - "
            f"{example.show((dy * p).sum())}) = {example.bare(x.gradient[at])}"
        )
    return lines


def layer_norm(example: Example) -> Worked:
    """One element beside those of its row."""
    x, w, b = example.need("input"), example.given("weight"), example.given("bias")
    y, (*row, i) = example.y, example.at
    if w is None or w.value.dim() != 1:
        raise IndexError
    eps = example.operation.settings.get("eps", 1e-5)
    values = x.value[tuple(row)].double()
    mean = values.mean()
    rstd = (values.var(unbiased=False) + float(eps)).rsqrt()
    hat = (values - mean) * rstd
    shift = f" + {example.show(b.value[i])}" if b is not None else ""
    lines = Worked(
        [
            f"mean = {example.bare(mean)}",
            f"rstd = {example.bare(rstd)}",
            f"{name_at('y', example.at)} = {example.show(w.value[i])} * "
            f"({example.bare(values[i])} - {example.show(mean)}) * {example.bare(rstd)}{shift}"
            f" = {example.bare(y.value[example.at])}",
        ]
    )
    if x.gradient is not None and y.gradient is not None:
        g = (y.gradient[tuple(row)] * w.value).double()
        lines.backward += [
            f"g[{i}] = {example.show(y.gradient[example.at])} * {example.show(w.value[i])} = "
            f"{example.bare(g[i])}",
            f"mean(g) = {example.bare(g.mean())}",
            f"mean(g x^) = {example.bare((g * hat).mean())}",
            f"{name_at('dx', example.at)} = {example.bare(rstd)} * ({example.bare(g[i])} - "
            f"{example.show(g.mean())} - {example.show(hat[i])} * {example.show((g * hat).mean())})"
            f" = {example.bare(x.gradient[example.at])}",
        ]
    return lines


def batch_norm(example: Example) -> Worked:
    """One element beside those of its channel; in training, where the batch gives the mean."""
    if not example.operation.settings.get("training"):
        return elementwise(example)
    x, y, at = example.need("input"), example.y, example.at
    w, b = example.given("weight"), example.given("bias")
    if w is None or b is None:
        raise IndexError
    channel = at[1]
    values = x.value.transpose(0, 1)[channel].double()
    mean = values.mean()
    rstd = (values.var(unbiased=False) + float(example.operation.settings.get("eps", 1e-5))).rsqrt()
    lines = Worked(
        [
            f"mean = {example.bare(mean)}",
            f"rstd = {example.bare(rstd)}",
            f"{name_at('y', at)} = {example.show(w.value[channel])} * "
            f"({example.bare(x.value[at])} - {example.show(mean)}) * {example.bare(rstd)} + "
            f"{example.show(b.value[channel])} = {example.bare(y.value[at])}",
        ]
    )
    if x.gradient is not None and y.gradient is not None:
        g = y.gradient.transpose(0, 1)[channel].double()
        hat = (values - mean) * rstd
        own = (x.value[at].double() - mean) * rstd
        lines.backward += [
            f"mean(dy) = {example.bare(g.mean())}",
            f"mean(dy x^) = {example.bare((g * hat).mean())}",
            f"{name_at('dx', at)} = {example.show(w.value[channel])} * {example.bare(rstd)} * "
            f"({example.bare(y.gradient[at])} - {example.show(g.mean())} - {example.show(own)} * "
            f"{example.show((g * hat).mean())}) = {example.bare(x.gradient[at])}",
        ]
    return lines
