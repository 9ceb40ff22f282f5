"""How far gradients are from the truth, by hand and by autograd, dtype by dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from manual_bp.spec import Draw, Sample, Spec

__all__ = ["DTYPES", "Precision", "precision", "relative_error"]

DTYPES = (torch.float64, torch.float32, torch.bfloat16)

_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}


@dataclass(frozen=True)
class Precision:
    """Largest relative errors of a gradient over all samples of a spec.

    Attributes:
        manual: By hand.
        native: By autograd, in the same dtype.

    The truth is autograd's gradient in float64, so that in float64 ``native`` is 0.
    """

    manual: float
    native: float


def relative_error(found: Tensor | None, expected: Tensor | None, scale: float) -> float:
    """Distance of two gradients over the norm of the second.

    Args:
        found: By hand; None where there is none, which counts as zeros.
        expected: By autograd.
        scale: Norm of the gradients around this one. One that is a millionth of it is taken for
            that large: where the truth is zero there is nothing but rounding.

    Returns:
        The error; infinite where one is finite and the other is not.
    """
    if found is None or expected is None:
        present = found if expected is None else expected
        if present is None:
            return 0.0
        found = expected = present  # one of them is zero
        difference = float(present.norm())
    else:
        found, expected = found.to_dense(), expected.to_dense()
        finite = expected.isfinite()
        if not torch.equal(found.isfinite(), finite):
            return float("inf")
        found, expected = found[finite], expected[finite]
        difference = float((found - expected).norm())
    norm = max(float(expected.norm()), 1e-6 * scale)
    return difference / norm if difference else 0.0


def precision(spec: Spec, dtype: torch.dtype) -> Precision | None:
    """Measure a spec's gradients in a dtype, over all of its samples that torch takes in it.

    Args:
        spec: Of a layer or operation.
        dtype: Of the samples' floating-point tensors.

    Returns:
        None where torch takes none of the samples, or other random numbers than in float64.
    """
    if spec.random and dtype != torch.float64:
        return None
    try:
        samples = list(spec.samples(Draw(dtype=dtype)))
    except (RuntimeError, NotImplementedError):  # complex numbers of no such precision
        return None
    errors = [_errors(spec, s, dtype) for s in samples]
    # An overflow of the dtype itself says nothing of the formulas.
    known = [e for e in errors if e is not None and e.native < float("inf")]
    if not known:
        return None
    return Precision(max(e.manual for e in known), max(e.native for e in known))


def _errors(spec: Spec, s: Sample, dtype: torch.dtype) -> Precision | None:
    kinds = {dtype, _COMPLEX.get(dtype)}
    if not any(isinstance(a, Tensor) and a.dtype in kinds for a in tree_leaves(s.args)):
        return None
    wide = s
    if dtype != torch.float64:  # a dtype that a sample asks for itself stays as it is
        wide = Sample(tree_map(_widened, s.args), tree_map(_widened, s.kwargs))
    truth = _gradients(spec.native, spec, wide, dtype)
    try:
        native = _gradients(spec.native, spec, s, dtype)
    except (RuntimeError, NotImplementedError):  # torch has no kernel in this dtype
        return None
    manual = _gradients(spec.manual, spec, s, dtype)
    scale = max((float(g.norm()) for g in truth if g is not None), default=0.0)
    worst = [
        max((relative_error(a, b, scale) for a, b in zip(g, truth, strict=True)), default=0.0)
        for g in (manual, native)
    ]
    return Precision(*worst)


def _widened(a: Any) -> Any:
    if not isinstance(a, Tensor) or not (a.is_floating_point() or a.is_complex()):
        return a
    wide = torch.complex128 if a.is_complex() else torch.float64
    return a.detach().to(wide).requires_grad_(a.requires_grad)


def _gradients(
    f: Callable[..., Any], spec: Spec, s: Sample, dtype: torch.dtype
) -> list[Tensor | None]:
    """In float64; under cotangents that ``dtype`` can hold."""
    call = partial(f, **s.kwargs)
    args = (s.args[0].clone(), *s.args[1:]) if spec.modifies else s.args
    torch.manual_seed(0)
    leaves = tree_leaves(call(*args))
    outputs = [y for y in leaves if isinstance(y, Tensor) and y.requires_grad]
    wanted = [a for a in tree_leaves(s.args) if isinstance(a, Tensor) and a.requires_grad]
    draw = Draw(7, dtype)
    cotangents = [draw.fixed(*y.shape).to(y.dtype) for y in outputs]
    found = torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True)
    return [None if g is None else g.to(torch.promote_types(g.dtype, torch.float64)) for g in found]
