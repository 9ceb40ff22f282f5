"""The work bench of one check: both functions, the example call, and what was learnt of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from manual_bp.conformance.call import Call, is_differentiable
from manual_bp.conformance.compare import largest
from manual_bp.conformance.fresh import fresh
from manual_bp.conformance.layouts import lay_out
from manual_bp.conformance.run import Forward, Raised
from manual_bp.conformance.untouched import same

if TYPE_CHECKING:
    from manual_bp.conformance.resize import Axis

__all__ = ["Bench", "LeftOut"]


# Examples are drawn under small seeds: a cotangent under the same one would be the input itself,
# and a gradient that is orthogonal to the input, as of a normalisation, would vanish.
_APART = 0x5EED_0000

# A gradient that is smaller, beside what it is made of, is rounding and nothing else.
_NOTHING = 1e-13

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def _are_offsets(x: Tensor, sizes: set[int]) -> bool:
    """Whether whole numbers rise from zero to a size, as the bounds of segments do."""
    if x.dim() == 0 or x.shape[-1] < 2 or not x.numel():
        return False
    rises = bool((x.diff(dim=-1) >= 0).all()) and not x[..., 0].any()
    return rises and x[..., -1].unique().tolist() in [[size] for size in sizes]


class LeftOut(Exception):
    """A probe or a case that says nothing about this function, with the reason."""


class Bench:
    """Both functions and the call they are compared on.

    Args:
        manual: The function under test.
        reference: What it has to equal.
        call: The example, in the dtype of the comparison.
        rtol: Relative tolerance, see :mod:`manual_bp.conformance.compare`.
        seed: Of everything that is drawn.
    """

    def __init__(
        self,
        manual: Callable[..., Any],
        reference: Callable[..., Any],
        call: Call,
        *,
        rtol: float,
        seed: int,
    ) -> None:
        self.manual = manual
        self.reference = reference
        self.rtol = rtol
        self.seed = seed
        floats = [call.leaves[i].dtype for i in call.floating]
        self.eps = max((torch.finfo(dtype).eps for dtype in floats), default=2.0**-52)
        self.agreement: dict[str, tuple[float, float]] = {}
        self.generator = torch.Generator().manual_seed(seed + _APART)
        self.explicit = bool(call.needs)
        self.call = call if call.needs else call.with_needs(self._find_needs(call))

    def _find_needs(self, call: Call) -> frozenset[int]:
        """The floating-point inputs that the reference has gradients for."""
        found: list[int] = []
        candidates = list(call.floating)
        # All at once is the usual case; one by one where an input may not require a gradient.
        for trial in (candidates, *([i] for i in candidates)):
            if len(found) > 0:
                break
            found = self._with_gradient(call, trial)
        if not found or len(found) == len(candidates):
            return frozenset(found)
        for i in candidates:
            if i not in found:
                found = self._with_gradient(call, [*found, i]) or found
        return frozenset(found)

    def _with_gradient(self, call: Call, needs: Sequence[int]) -> list[int]:
        if not needs:
            return []
        try:
            forward = Forward(self.reference, call.with_needs(needs), self.seed)
            grads = forward.backward([torch.ones_like(y) for y in forward.outputs])
        except Raised:
            return []
        return [i for i, grad in grads.items() if grad is not None]

    def refer(self, call: Call) -> Forward:
        """Call the reference; where it refuses, the case is left out."""
        try:
            return Forward(self.reference, call, self.seed)
        except Raised as raised:
            raise LeftOut(f"the reference refuses it ({raised.message})") from None

    def draw(self, like: Tensor) -> Tensor:
        """Normal numbers in the shape, dtype and device of a tensor."""
        wide = torch.complex128 if like.dtype.is_complex else torch.float64
        drawn = torch.randn(like.shape, generator=self.generator, dtype=wide)
        return drawn.to(device=like.device, dtype=like.dtype)

    def cotangents(
        self, outputs: Sequence[Tensor], layout: str = "contiguous"
    ) -> list[Tensor | None]:
        """A random cotangent for each differentiable output, all in one layout."""
        return [
            lay_out(self.draw(y), layout) if is_differentiable(y) and y.requires_grad else None
            for y in outputs
        ]

    def outputs(self) -> list[Tensor]:
        """The reference's outputs for the example call; none where it refuses."""
        try:
            return Forward(self.reference, self.call, self.seed).outputs
        except Raised:
            return []

    @cached_property
    def scales(self) -> dict[int, float]:
        """Size of each gradient in the example call, under a cotangent of size one.

        An example may sit where the gradient vanishes, as the cosine of parallel vectors does:
        then it is the size at the same numbers in another order. Where that vanishes too, as for
        the sum of a softmax, it is the size of output over input, of which only rounding is left.
        """
        here, nearby = self._sizes(self.call), self._sizes(fresh(self, self.call))
        scales = {}
        for i in here | nearby:
            size = max(here.get(i, 0.0), nearby.get(i, 0.0))
            natural = max(self._output_scales, default=0.0) / (largest(self.call.leaves[i]) or 1.0)
            scales[i] = size if size > _NOTHING * natural else natural
        return scales

    def _sizes(self, call: Call) -> dict[int, float]:
        """Size of the reference's gradients, under a cotangent of size one."""
        try:
            forward = Forward(self.reference, call, self.seed)
            grads = forward.backward(self.cotangents(forward.outputs))
        except Raised:
            return {}
        return {i: largest(grad) for i, grad in grads.items() if grad is not None}

    @cached_property
    def _output_scales(self) -> list[float]:
        return [largest(y) for y in self.outputs()]

    def output_scale(self, index: int) -> float:
        """Size of an output in the example call."""
        return self._output_scales[index] if index < len(self._output_scales) else 0.0

    @cached_property
    def own_numbers(self) -> bool:
        """Whether both sides draw random numbers, but not the same ones under one seed."""
        try:
            native = Forward(self.reference, self.call, self.seed)
            manual = Forward(self.manual, self.call, self.seed)
        except Raised:
            return False
        if not (native.drew and manual.drew):
            return False
        pairs = zip(manual.outputs, native.outputs, strict=False)
        return any(
            a.shape == b.shape and not torch.allclose(a, b, equal_nan=True) for a, b in pairs
        )

    def twin(self, call: Call) -> Forward:
        """What a call is compared with: the reference, or else the function's own plain call."""
        if self.own_numbers:
            return Forward(self.manual, call, self.seed)
        return self.refer(call)

    @cached_property
    def structured(self) -> bool:
        """Whether whole numbers of the call have to fit together: offsets, lengths and labels.

        Such a call is not varied in its whole numbers. What fits, no checker can know, and not
        every reference looks: torch's ctc_loss and embedding_bag then read outside their memory.
        """
        leaves = self.call.leaves
        whole = [i for i in self.call.tensors if leaves[i].dtype in _WHOLE]
        parts = [
            name
            for name, leaf in zip(self.call.names, leaves, strict=True)
            if type(leaf) is int and name.endswith("]")
        ]
        sizes = {size for i in self.call.floating for size in leaves[i].shape}
        offsets = any(_are_offsets(leaves[i], sizes) for i in whole)
        return len(whole) > 1 or bool(whole and parts) or offsets

    @cached_property
    def written(self) -> frozenset[int]:
        """Inputs that the reference itself writes into, such as running statistics."""
        try:
            made = Forward(self.reference, self.call, self.seed).made.leaves
        except Raised:
            return frozenset()
        before = self.call.leaves
        return frozenset(
            i for i in self.call.tensors if made[i]._version > 0 or not same(made[i], before[i])
        )

    @cached_property
    def indices(self) -> frozenset[int]:
        """Whole numbers that point into something: the reference refuses one that is too large.

        Counts, lengths and exponents may be any number, and cost memory and time when they are.
        """
        call = self.call
        if self.structured:
            return frozenset()
        beyond = 1 + max((size for i in call.tensors for size in call.leaves[i].shape), default=0)
        found = []
        for i in call.tensors:
            leaf = call.leaves[i]
            if leaf.dtype not in _WHOLE or not leaf.numel():
                continue
            if leaf.is_cuda:  # where such an index ends the process
                found.append(i)
                continue
            try:
                Forward(self.reference, call.with_leaf(i, torch.full_like(leaf, beyond)), self.seed)
            except Raised:
                found.append(i)
        return frozenset(found)

    @cached_property
    def axes(self) -> list[Axis]:
        """Dimensions of the inputs that change together."""
        from manual_bp.conformance.resize import find_axes

        return find_axes(self)

    def name(self, leaf: int) -> str:
        """How the report calls an input."""
        return self.call.names[leaf]

    def integers(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """Random integers in [low, high)."""
        return torch.randint(low, high, tuple(shape), generator=self.generator)
