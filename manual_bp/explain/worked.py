"""One element of an operation, computed before the reader's eyes: the formula with its numbers.

Of all elements the one is taken at which the largest gradient arrives. The lines are written in
the notation of the specs, ``y[0, 1] = 0.5 * 2 + 0.1 = 1.1``, for a view to set.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from manual_bp.explain.explanation import Operation, Symbol, Update
from manual_bp.explain.symbols import spec_of
from manual_bp.explain.views.numbers import number

__all__ = ["Worked", "worked", "worked_update"]

TERMS = 5
"""The largest number of terms of a sum that are written out."""

Place = tuple[int, ...]


@dataclass
class Worked:
    """The lines of an example; either list may be empty."""

    forward: list[str] = field(default_factory=list)
    backward: list[str] = field(default_factory=list)
    arriving: tuple[str, Place] | None = None  # the gradient that the backward lines start from

    @property
    def places(self) -> dict[str, list[int]]:
        """Which element of what the lines compute: ``{"y": [0, 1], "dW": [1, 0]}``."""
        found = (re.match(r"(\w+)\[([\d, ]+)\] =", line) for line in self.forward + self.backward)
        places = {m[1]: [int(i) for i in m[2].split(",")] for m in found if m is not None}
        return places | ({self.arriving[0]: [*self.arriving[1]]} if self.arriving else {})


def worked(operation: Operation, precision: int = 4) -> Worked:
    """Work one element of an operation out, forward and backward.

    Args:
        operation: Of a recorded step.
        precision: Significant digits.
    """
    if len(operation.outputs) != 1:
        return Worked()
    writer = _WRITERS.get(operation.name, _elementwise)
    try:
        return writer(_Example(operation, precision))
    except (IndexError, KeyError, StopIteration):  # a form of the call that has no example
        return Worked()


def worked_update(update: Update, precision: int = 4) -> str:
    """Work out the number of a parameter that moves most; "" where none does."""
    if update.change is None or update.gradient is None or update.change.is_complex():
        return ""
    if update.change.numel() == 0:
        return ""
    at = _strongest(update.change)
    before, g = _shown(update.before[at], precision), _shown(update.gradient[at], precision)
    after = number(float((update.before + update.change)[at]), precision)
    name = _name("theta", at)
    if update.rule == "theta = theta - lr g":
        lr = number(update.numbers.get("lr", 0.0), precision)
        return f"{name} = {before} - {lr} * {g} = {after}"
    return f"{name} = {before} + {_shown(update.change[at], precision)} = {after}"


def _shown(value: Tensor | float, precision: int) -> str:
    """A number; a negative one in brackets."""
    text = number(float(value), precision)
    return f"({text})" if text.startswith("-") else text


class _Example:
    """An operation and one place in its output."""

    def __init__(self, operation: Operation, precision: int) -> None:
        self.operation, self.precision = operation, precision
        self.y = operation.outputs[0]
        strongest = self.y.gradient if self.y.gradient is not None else self.y.value
        for s in operation.inputs:  # rather where blame passes than where it is stopped
            if s.slope is not None and s.gradient is not None and s.gradient.any():
                strongest = s.gradient if s.shape == self.y.shape else strongest
        if strongest.numel() == 0 or strongest.is_complex():
            raise IndexError
        flat = int(torch.nan_to_num(strongest).abs().flatten().argmax())
        self.at = _place(flat, self.y.shape)

    def given(self, argument: str) -> Symbol | None:
        """The input of that argument."""
        return next((s for s in self.operation.inputs if s.argument == argument), None)

    def need(self, argument: str) -> Symbol:
        """The same, which has to be there."""
        found = self.given(argument)
        if found is None:
            raise KeyError(argument)
        return found

    def show(self, value: Tensor | float) -> str:
        """A number; a negative one in brackets."""
        return _shown(value, self.precision)

    def bare(self, value: Tensor | float) -> str:
        """A number that stands alone."""
        return number(float(value), self.precision)

    def products(self, left: Tensor, right: Tensor) -> str:
        """The sum of the products of two vectors."""
        terms = [
            f"{self.show(a)} * {self.show(b)}"
            for a, b in zip(left[:TERMS], right[:TERMS], strict=True)
        ]
        return self.joined(terms, len(left))

    def joined(self, terms: Sequence[str], count: int) -> str:
        """Terms with their signs; what is left out is counted."""
        text = " + ".join(terms[:TERMS])
        return text if count <= TERMS else f"{text} + ... ({count} terms)"


def _place(flat: int, shape: Sequence[int]) -> Place:
    place = []
    for size in reversed(shape):
        place.append(flat % size)
        flat //= size
    return tuple(reversed(place))


def _name(letter: str, place: Iterable[int]) -> str:
    inside = ", ".join(map(str, place))
    return f"{letter}[{inside}]" if inside else letter


def _elementwise(example: _Example) -> Worked:
    operation, y, at = example.operation, example.y, example.at
    lines = Worked()
    inputs = {s.name: s for s in operation.inputs if s.value.is_floating_point()}
    elements = {name: _element(s.value, at, y.shape) for name, s in inputs.items()}
    pointwise = [s for s in operation.inputs if s.slope is not None]
    if not pointwise or any(v is None for v in elements.values()):
        return lines
    substituted = _substituted(example, {k: v for k, v in elements.items() if v is not None})
    lines.forward.append(
        f"{_name(y.name, at)} = {substituted} = {example.bare(y.value[at])}"
        if substituted
        else f"{_name(y.name, at)} = {operation.name}"
        f"({', '.join(example.bare(v) for v in elements.values() if v is not None)})"
        f" = {example.bare(y.value[at])}"
    )
    for s in pointwise:
        if s.gradient is None or y.gradient is None or s.slope is None or s.shape != y.shape:
            continue
        g, slope = y.gradient[at], s.slope[at]
        lines.arriving = (f"d{y.name}", at)
        lines.backward.append(f"∂{y.name}/∂{s.name} = {example.bare(slope)}")
        lines.backward.append(
            f"d{_name(s.name, at)} = d{_name(y.name, at)} * ∂{y.name}/∂{s.name} = "
            f"{example.show(g)} * {example.show(slope)} = {example.bare(s.gradient[at])}"
        )
    return lines


def _element(value: Tensor, at: Place, shape: Sequence[int]) -> Tensor | None:
    """The element of an input that meets the output's at a place; None where shapes do not fit."""
    try:
        return value.expand(tuple(shape))[at]
    except RuntimeError:
        return value.reshape(()) if value.numel() == 1 and len(shape) == 0 else None


def _substituted(example: _Example, elements: dict[str, Tensor]) -> str:
    """The right side of the formula with numbers for its letters; "" where a letter is left."""
    spec = spec_of(example.operation.name)
    formula = example.operation.formula
    if spec is None or ",  " in formula or " where " in formula or "_" in formula:
        return ""
    _, equals, right = formula.partition(" = ")
    settings = {**_defaults(spec.manual), **example.operation.settings}
    text, last = "", ""
    for match in re.finditer(r"[A-Za-z]+\d*|\d+\.?\d*|\s+|.", right):
        piece = match.group()
        letter = {"y": "other", "x": "input", "p": "exponent"}.get(piece, piece)
        shown = ""
        if piece in elements:
            shown = example.show(elements[piece])
        elif isinstance(number_ := settings.get(piece, settings.get(letter)), (int, float)):
            shown = example.show(float(number_))
        elif piece.isalpha() and piece not in _KNOWN and len(piece) == 1:
            return ""
        if shown and last in ("number", "close"):
            text = text.rstrip() + " * "
        text += shown or piece
        if not piece.isspace():
            last = "number" if shown or piece[0].isdigit() else "close" if piece == ")" else ""
    text = re.sub(r"(?<![\d.^/(])1 \* ", "", text.strip())
    text = re.sub(r"([(,] ?)\((-[^()]+)\)(?=[,)])", r"\1\2", text)  # max((-1), 0)
    return text if equals else ""


_KNOWN = frozenset("e")


def _defaults(face: Callable[..., object]) -> dict[str, object]:
    parameters = inspect.signature(face).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _linear(example: _Example) -> Worked:
    x, w, b = example.need("input"), example.need("weight"), example.given("bias")
    y, at = example.y, example.at
    if w.value.dim() != 2 or not at:
        raise IndexError
    *n, o = at
    products = example.products(x.value[tuple(n)], w.value[o])
    plus = f" + {example.show(b.value[o])}" if b is not None else ""
    lines = Worked([f"{_name('y', at)} = {products}{plus} = {example.bare(y.value[at])}"])
    g = y.gradient
    if g is None:
        return lines
    if x.gradient is not None:
        where = _strongest(x.gradient[tuple(n)])
        sums = example.products(g[tuple(n)], w.value[:, where])
        place = _name("dx", (*n, *where))
        lines.backward.append(f"{place} = {sums} = {example.bare(x.gradient[(*n, *where)])}")
    rows, blames = x.value.flatten(0, -2), g.flatten(0, -2)
    if x.value.dim() == 1:
        rows, blames = x.value[None], g[None]
    if w.gradient is not None:
        (i,) = _strongest(w.gradient[o])
        sums = example.products(blames[:, o], rows[:, i])
        lines.backward.append(f"dW[{o}, {i}] = {sums} = {example.bare(w.gradient[o, i])}")
    if b is not None and b.gradient is not None:
        sums = example.joined([example.show(v) for v in blames[:TERMS, o]], len(blames))
        lines.backward.append(f"db[{o}] = {sums} = {example.bare(b.gradient[o])}")
    return lines


def _strongest(x: Tensor) -> Place:
    return _place(int(torch.nan_to_num(x).abs().flatten().argmax()), x.shape)


def _matmul(example: _Example) -> Worked:
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
    lines = Worked([f"{_name(z.name, at)} = {sums} = {example.bare(z.value[at])}"])
    g = z.gradient
    if g is None:
        return lines
    if x.gradient is not None and x.value.dim() == z.value.dim():
        (k,) = _strongest(x.gradient[(*batch, i)])
        sums = example.products(g[(*batch, i)], w.value[(*_within(batch, w.value), k)])
        place = _name("dx", (*batch, i, k))
        lines.backward.append(f"{place} = {sums} = {example.bare(x.gradient[(*batch, i, k)])}")
    if w.gradient is not None and w.value.dim() == z.value.dim():
        (k,) = _strongest(w.gradient.mT[(*batch, j)])
        sums = example.products(x.value.mT[(*_within(batch, x.value), k)], g.mT[(*batch, j)])
        place = _name("dy", (*batch, k, j))
        lines.backward.append(f"{place} = {sums} = {example.bare(w.gradient[(*batch, k, j)])}")
    return lines


def _within(batch: Place, value: Tensor) -> Place:
    """The place of a batch in a tensor that may have fewer axes, or axes of size 1."""
    own = value.shape[:-2]
    used = list(batch)[len(batch) - len(own) :]
    return tuple(0 if size == 1 else k for k, size in zip(used, own, strict=True))


def _softmax(example: _Example) -> Worked:
    (x,) = example.operation.inputs
    axis = example.operation.settings.get("dim", -1)
    axis = axis if isinstance(axis, int) else -1
    y, at = example.y, example.at
    row = tuple(slice(None) if d == axis % y.value.dim() else k for d, k in enumerate(at))
    i = at[axis]
    terms = example.joined([f"e^{example.show(v)}" for v in x.value[row]], x.shape[axis])
    lines = Worked([f"{_name('y', at)} = e^{example.show(x.value[row][i])} / ({terms})"])
    lines.forward[0] += f" = {example.bare(y.value[at])}"
    if y.gradient is not None and x.gradient is not None:
        dy, p = y.gradient[row], y.value[row]
        mean = example.products(dy, p)
        lines.backward.append(f"sum_j dy_j y_j = {mean} = {example.bare((dy * p).sum())}")
        lines.backward.append(
            f"{_name('dx', at)} = {example.show(p[i])} * ({example.bare(dy[i])} - "
            f"{example.show((dy * p).sum())}) = {example.bare(x.gradient[at])}"
        )
    return lines


def _cross_entropy(example: _Example) -> Worked:
    x, t = example.need("input"), example.need("target")
    if x.value.dim() != 2 or t.value.is_floating_point() or example.operation.settings:
        raise IndexError
    count = len(x.value)
    n, c = _strongest(x.gradient) if x.gradient is not None else (0, int(t.value[0]))
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


def _mse(example: _Example) -> Worked:
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
        at = _strongest(x.gradient)
        lines.backward.append(
            f"{_name('dx', at)} = {example.show(example.y.gradient)} * 2 * "
            f"({example.bare(x.value[at])} - {example.show(t.value[at])}){over} = "
            f"{example.bare(x.gradient[at])}"
        )
    return lines


def _layer_norm(example: _Example) -> Worked:
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
            f"{_name('y', example.at)} = {example.show(w.value[i])} * ({example.bare(values[i])} - "
            f"{example.show(mean)}) * {example.bare(rstd)}{shift}"
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
            f"{_name('dx', example.at)} = {example.bare(rstd)} * ({example.bare(g[i])} - "
            f"{example.show(g.mean())} - {example.show(hat[i])} * {example.show((g * hat).mean())})"
            f" = {example.bare(x.gradient[example.at])}",
        ]
    return lines


def _mean(example: _Example) -> Worked:
    (x,) = example.operation.inputs
    if example.at:
        raise IndexError
    values, count = x.value.flatten(), x.value.numel()
    sums = example.joined([example.show(v) for v in values[:TERMS]], count)
    over = f" / {count}" if example.operation.name == "mean" else ""
    sums = f"({sums})" if over else sums
    lines = Worked([f"{example.y.name} = {sums}{over} = {example.bare(example.y.value)}"])
    if x.gradient is not None and example.y.gradient is not None:
        at = _strongest(x.gradient)
        lines.backward.append(
            f"{_name('dx', at)} = {example.bare(example.y.gradient)}{over} = "
            f"{example.bare(x.gradient[at])}"
        )
    return lines


_WRITERS: dict[str, Callable[[_Example], Worked]] = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "addmm": _matmul,
    "softmax": _softmax,
    "cross_entropy": _cross_entropy,
    "mse_loss": _mse,
    "layer_norm": _layer_norm,
    "mean": _mean,
    "sum": _mean,
}
