r"""Reduce stretches of an axis, each of a length of its own: ``torch.segment_reduce``.

Indices: ``p`` place along the axis, s(p) the stretch it is in, told by its length. Forward, for
each stretch::

    y_s = sum, mean, product, largest or smallest of the x_p with s(p) = s

It is ``scatter_reduce`` with s(p) for the places, and so is its gradient; see there. With
``initial`` every stretch starts from that number; an empty one has nothing else. Among several that
are the largest torch 2.13 divides a gradient only where it is above 0; here it always is divided.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from manual_bp.function import nothing_to_do
from manual_bp.ops.div import div
from manual_bp.ops.narrow import narrow
from manual_bp.ops.scatter_reduce import ScatterReduceFunction
from manual_bp.spec import Draw, Sample, Spec, sample

# The name in scatter_reduce, and what changes nothing.
_WAYS = {
    "sum": ("sum", 0.0),
    "mean": ("sum", 0.0),
    "prod": ("prod", 1.0),
    "max": ("amax", -torch.inf),
    "min": ("amin", torch.inf),
}


def segment_reduce(
    data: Tensor,
    reduce: str,
    *,
    lengths: Tensor | None = None,
    indices: Tensor | None = None,
    offsets: Tensor | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: float | None = None,
    dim: int | None = None,
) -> Tensor:
    """Each stretch of ``data`` reduced to one; as ``torch.segment_reduce``.

    Args:
        data: (B..., P, ...), with as many axes B as ``axis`` says
        reduce: "sum", "mean", "prod", "max" or "min"
        lengths: (B..., S), integers
        indices: not supported by torch
        offsets: (B..., S + 1), where each stretch starts and the last one ends; instead of lengths
        axis: the axis P
        unsafe: do not check that the lengths add up to P
        initial: where every stretch starts from
        dim: ``axis``, as by_hand() calls it

    Returns:
        (B..., S, ...)

    Raises:
        RuntimeError: From torch, where arguments do not fit.
    """
    axis = axis if dim is None else dim
    if not torch._C._are_functorch_transforms_active():  # for which torch's own is not made
        with torch.no_grad():  # what torch may say against the arguments
            expected = torch.segment_reduce(
                data,
                reduce,
                lengths=lengths,
                indices=indices,
                offsets=offsets,
                axis=axis,
                unsafe=unsafe,
                initial=initial,
            )
        if nothing_to_do(data):
            return expected
    how, neutral = _WAYS[reduce]
    if lengths is not None:
        ends, start = lengths.cumsum(-1), torch.zeros_like(lengths[..., :1])
    else:
        ends, start = offsets[..., 1:], offsets[..., :1]  # type: ignore[index]
        lengths = ends.diff(dim=-1, prepend=start)
    size, count = data.shape[axis], ends.shape[-1]
    places = torch.arange(size, device=data.device).expand(*ends.shape[:-1], size)
    stretch = torch.searchsorted(ends.contiguous(), places.contiguous(), right=True)
    # What is in none goes to one more behind the last, which is left out.
    stretch = stretch.masked_fill(places < start, count)
    behind = [1] * (data.dim() - 1 - axis)
    index = stretch.view(*stretch.shape, *behind).expand(data.shape)
    shape = [*data.shape[:axis], count + 1, *data.shape[axis + 1 :]]
    begin = data.new_full(shape, neutral if initial is None else initial)
    y = ScatterReduceFunction.apply(begin, axis, index, data, how, True)
    y = narrow(y, axis, 0, count)
    if reduce != "mean":
        return y
    divisor = lengths.view(*lengths.shape, *behind).to(data.dtype)
    return div(y, divisor if initial is None else divisor.masked_fill(divisor == 0, 1))


def _samples(draw: Draw) -> Iterator[Sample]:
    lengths = torch.tensor([2, 0, 3], device=draw.device)
    yield sample(draw(5, 2), "sum", lengths=lengths)
    yield sample(draw(5, 2), "mean", lengths=lengths, initial=1.0, label="mean")
    two = torch.tensor([[0, 2, 5], [0, 1, 5]], device=draw.device)
    yield sample(draw(2, 5), "prod", offsets=two, axis=1, label="offsets")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5), "sum", lengths=torch.tensor([2, 2]), label="lengths")


SPEC = Spec(
    name="segment_reduce",
    formula="y_s = sum, mean, product, largest or smallest of the x_p with s(p) = s",
    gradient="as scatter_reduce's",
    manual=segment_reduce,
    native=torch.segment_reduce,
    # where lengths and data do not fit, torch 2.13 reads outside of its memory
    skip=("sizes", "empty", "ranks"),
    samples=_samples,
    refused=_refused,
)
