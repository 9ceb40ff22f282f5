"""What a wrong tensor has in common with the right one: clues to the line that made it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor

from manual_bp.conformance.call import Call
from manual_bp.conformance.compare import Mismatch, largest

__all__ = ["clues"]

_CLOSE = 1e-7
_WHOLE = ": a whole number; is something counted twice, or half of a symmetric term missing?"
_CONSTANT = ": a constant is wrong or left out"


def clues(subject: str, mismatch: Mismatch, call: Call, known: Mapping[str, Tensor]) -> list[str]:
    """Everything that is striking about a difference, the most telling first.

    Args:
        subject: What differs, as in ``gradient of x``.
        mismatch: The two tensors.
        call: The arguments.
        known: Other tensors of this call by name: inputs, outputs, cotangents, and autograd's
            gradients of the other inputs.
    """
    got, expected = mismatch.got, mismatch.expected
    if got.shape != expected.shape or not got.dtype.is_floating_point:
        return _about_values(got, expected)
    if got.numel() < 2:
        return _about_values(got, expected) or _about_one(got, expected, call)
    if not bool(got.isfinite().all()) or not bool(expected.isfinite().all()):
        return _about_values(got, expected) + _about_places(mismatch, known)
    if _near(got, expected):
        return _about_places(mismatch, known) + _about_size(mismatch)
    for look in (_same_elsewhere, _factor, _rearranged, _missing_term, _factor_along):
        found = look(subject, mismatch, call, known)
        if found:
            return found + _about_places(mismatch, known)
    return _about_values(got, expected) + _about_places(mismatch, known) + _about_size(mismatch)


def _near(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors agree, up to rounding at the size of the larger."""
    size = max(largest(a), largest(b))
    return a.shape == b.shape and float((a - b).abs().max()) <= _CLOSE * size


def _about_values(got: Tensor, expected: Tensor) -> list[str]:
    if got.is_complex() or not got.dtype.is_floating_point:
        return []
    bad = ~got.isfinite() & expected.isfinite()
    if bool(bad.any()):
        what = "NaN" if bool(got[bad].isnan().all()) else "infinite"
        return [
            f"{int(bad.sum())} of {got.numel()} elements are {what} where autograd's are finite"
        ]
    if not got.numel() or largest(got) == 0:
        return ["it is zero everywhere"]
    return []


def _same_elsewhere(
    subject: str, mismatch: Mismatch, call: Call, known: Mapping[str, Tensor]
) -> list[str]:
    if largest(mismatch.got) == 0:
        return ["it is zero everywhere"]
    for name, tensor in known.items():
        if not name.startswith("grad") or name == subject or not largest(tensor):
            continue
        if _near(mismatch.got, tensor):
            whose = "" if name.startswith("grad_output") else "autograd's "
            return [f"it equals {whose}{name}"]
    return []


def _factor(subject: str, mismatch: Mismatch, call: Call, known: Mapping[str, Tensor]) -> list[str]:
    got, expected = mismatch.got, mismatch.expected
    square = float((expected * expected).sum())
    if not square:
        return []
    factor = float((got * expected).sum()) / square
    if abs(factor) < 1e-6 or not _near(got, factor * expected):
        return []
    if expected.numel() - int((expected == 0).sum()) < 2:
        return []
    return [f"it is {factor:.6g} times autograd's, in every element{_name_of(factor, call)}"]


def _about_one(got: Tensor, expected: Tensor, call: Call) -> list[str]:
    """A single number has a factor to any other: it counts where the call explains it."""
    if not got.numel() or not float(expected) or not math.isfinite(float(got)):
        return []
    factor = float(got) / float(expected)
    name = _name_of(factor, call)
    known = factor == 0 or name not in (_WHOLE, _CONSTANT)
    return [f"it is {factor:.6g} times autograd's{name}"] if known else []


def _name_of(factor: float, call: Call) -> str:
    """What a factor may stand for: a size, a number of the call, or one over it."""
    if abs(factor + 1) < _CLOSE:
        return ": the sign"
    numbers: dict[str, float] = {}
    for i, leaf in enumerate(call.leaves):
        name = call.names[i]
        if isinstance(leaf, Tensor):
            for dim, size in enumerate(leaf.shape):
                numbers.setdefault(f"size {size} of dim {dim} of {name}", size)
            numbers.setdefault(f"number of elements {leaf.numel()} of {name}", leaf.numel())
        elif isinstance(leaf, (int, float)) and not isinstance(leaf, bool):
            numbers.setdefault(f"argument {name} = {leaf}", leaf)
            numbers.setdefault(f"1 - {name} = {1 - leaf:g}", 1 - leaf)
    for name, number in numbers.items():
        if abs(number) in (0, 1):
            continue
        if abs(factor - number) < _CLOSE * abs(number):
            return f": the {name}; is a division by it missing (a sum in place of a mean)?"
        if abs(factor * number - 1) < _CLOSE:
            return f": one over the {name}; is it divided by once too often?"
    if abs(factor - round(factor)) < _CLOSE or abs(1 / factor - round(1 / factor)) < _CLOSE:
        return _WHOLE
    return _CONSTANT


def _rearranged(
    subject: str, mismatch: Mismatch, call: Call, known: Mapping[str, Tensor]
) -> list[str]:
    got, expected = mismatch.got, mismatch.expected
    if got.dim() > 4:
        return []
    for order in permutations(range(got.dim())):
        moved = expected.permute(order)
        if order != tuple(range(got.dim())) and moved.shape == got.shape and _near(got, moved):
            return [f"it is autograd's with dims permuted to {order}: transposed"]
    for dim in range(got.dim()):
        if got.shape[dim] > 1 and _near(got, expected.flip(dim)):
            return [f"it is autograd's flipped along dim {dim}"]
        for shift in (1, 2, -1, -2):
            if got.shape[dim] > 2 and _near(got, expected.roll(shift, dim)):
                return [f"it is autograd's rolled by {shift} along dim {dim}"]
    sizes, ranks = got.reshape(-1).sort().values, expected.reshape(-1).sort().values
    if got.numel() > 3 and _near(sizes, ranks):
        return ["it has autograd's numbers in other places: a permutation is wrong"]
    return []


def _missing_term(
    subject: str, mismatch: Mismatch, call: Call, known: Mapping[str, Tensor]
) -> list[str]:
    """A difference that is one number a row, or a multiple a row of a tensor that is at hand."""
    difference = mismatch.got - mismatch.expected
    size = largest(difference)
    for dim in reversed(range(difference.dim())):
        if difference.shape[dim] < 3:
            continue
        middle = difference.mean(dim, keepdim=True)
        if float((difference - middle).abs().max()) <= _CLOSE * size:
            return [
                f"its difference from autograd's is one and the same number all along dim {dim}: "
                f"a term that is summed or averaged over dim {dim}, such as mean(grad_output), is "
                "missing or wrong"
            ]
    for dim in reversed(range(difference.dim())):
        if difference.shape[dim] < 4:
            continue
        for name, tensor in known.items():
            if tensor.shape != difference.shape or name.startswith("gradient"):
                continue
            shifted = _residual(difference, tensor, dim)
            if shifted <= _CLOSE * size:
                return [
                    f"its difference from autograd's is, all along dim {dim}, a multiple of {name} "
                    f"(up to a constant): a term {name} times something summed or averaged over "
                    f"dim {dim} is missing or wrong"
                ]
    return []


def _residual(difference: Tensor, tensor: Tensor, dim: int) -> float:
    """What is left of a difference after a line in ``tensor`` is fitted along ``dim``."""
    x = tensor - tensor.mean(dim, keepdim=True)
    y = difference - difference.mean(dim, keepdim=True)
    square = (x * x).sum(dim, keepdim=True)
    slope = torch.where(square > 0, (x * y).sum(dim, keepdim=True) / square, 0)
    return float((y - slope * x).abs().max())


def _factor_along(
    subject: str, mismatch: Mismatch, call: Call, known: Mapping[str, Tensor]
) -> list[str]:
    got, expected = mismatch.got, mismatch.expected
    if bool((expected.abs() < 1e-9 * largest(expected)).any()):
        return []
    ratio = got / expected
    for name, tensor in known.items():
        if name.startswith("gradient") or not 1 <= tensor.dim() <= ratio.dim():
            continue
        try:
            wide = tensor.expand(ratio.shape)
        except RuntimeError:
            continue
        if _near(ratio, wide):
            return [f"it is autograd's times {name}: one factor {name} too many"]
        if _near(ratio * wide, torch.ones_like(ratio)):
            return [f"it is autograd's divided by {name}: a factor {name} is missing"]
    for dim in range(ratio.dim()):
        if ratio.shape[dim] > 2 and _near(ratio, ratio.narrow(dim, 0, 1).expand_as(ratio)):
            return [f"its ratio to autograd's does not change along dim {dim}"]
    return []


def _about_places(mismatch: Mismatch, known: Mapping[str, Tensor]) -> list[str]:
    """What the wrong elements have in common that the right ones have not."""
    if not 0 < mismatch.wrong < mismatch.total:
        return []
    distance = (mismatch.got - mismatch.expected).abs().nan_to_num(float("inf"))
    wrong = distance > max(mismatch.tolerance, 0.0)
    found = []
    for name, x in known.items():
        if x.shape != wrong.shape or name.startswith("grad") or not x.dtype.is_floating_point:
            continue
        conditions = {
            f"{name} is zero": x == 0,
            f"{name} is negative": x < 0,
            f"{name} is positive": x > 0,
            f"{name} is infinite": x.isinf(),
            f"{name} is a whole number": x == x.round(),
        }
        found += [
            f"wrong exactly where {what}"
            for what, is_so in conditions.items()
            if torch.equal(is_so, wrong)
        ]
        inside, outside = x[~wrong].abs(), x[wrong].abs()
        if not found and float(outside.min()) > float(inside.max()):
            found.append(f"wrong only where |{name}| > {float(inside.max()):.4g}")
        elif not found and len(outside.unique()) <= 2 and len(inside.unique()) > 2:
            values = ", ".join(f"{v:.6g}" for v in x[wrong].unique().tolist())
            found.append(f"wrong only where {name} is {values}")
        if found:
            return found[:1]
    for dim in range(wrong.dim()):
        others = [d for d in range(wrong.dim()) if d != dim]
        rows = wrong.any(others) if others else wrong
        places = rows.nonzero().flatten().tolist()
        if len(places) < len(rows):
            shown = f"{places[0]} to {places[-1]}" if len(places) > 4 else str(places)
            return [f"wrong only at index {shown} of dim {dim} (of {len(rows)})"]
    return []


def _about_size(mismatch: Mismatch) -> list[str]:
    if mismatch.expected.dtype != torch.float64:
        return []
    if 1e-9 < mismatch.relative < 1e-6:
        return ["the error has the size of float32 rounding: something is computed in float32"]
    if 1e-4 < mismatch.relative < 1e-2 and mismatch.wrong > 0.9 * mismatch.total:
        return ["the error has the size of half precision: something is saved in 16 bits"]
    return []
