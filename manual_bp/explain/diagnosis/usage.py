"""Layers that are given what does not suit them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from manual_bp.explain.diagnosis.call import Call
from manual_bp.explain.diagnosis.case import Case
from manual_bp.explain.diagnosis.finding import Finding
from manual_bp.explain.diagnosis.summary import number, summarize

__all__ = ["CONSTANT_SHARE", "INPUT_RMS", "constant", "inputs", "padding", "softmax_twice"]

INPUT_RMS = 30.0
"""Root mean square of the network's input. Normalized data have 1 (LeCun et al. 1998, section
4.3); digits of 0 to 16 have 8 and still train; pixels of 0 to 255 have about 100."""

CONSTANT_SHARE = 0.5
"""Of the groups that a normalization layer normalizes, how many may vary by less than its eps. A
few are usual: the corner pixels of digits are always 0."""

_NORMALIZING = {"batch_norm": 1e-5, "layer_norm": 1e-5, "group_norm": 1e-5, "instance_norm": 1e-5}
_LINEAR = ("linear", "conv", "matmul", "addmm", "mm", "bmm", "rnn", "lstm", "gru", "bilinear")
_MOVING = {
    "view",
    "reshape",
    "flatten",
    "transpose",
    "permute",
    "squeeze",
    "unsqueeze",
    "t",
    "contiguous",
    "to",
    "float",
    "double",
    "clone",
    "getitem",
    "mT",
    "T",
    "unflatten",
}

# What a loss takes, and what it is given too often.
_NORMALIZED = {
    "cross_entropy": (1, {"softmax"}, "takes logits and applies log-softmax itself"),
    "nll_loss": (1, {"softmax", "sigmoid"}, "takes log-probabilities"),
    "binary_cross_entropy_with_logits": (
        1,
        {"sigmoid", "softmax"},
        "takes logits and applies the sigmoid itself",
    ),
}


def softmax_twice(case: Case) -> Iterator[Finding]:
    """Losses that take logits and are given probabilities."""
    for call in case.watch.calls:
        _, given, takes = _NORMALIZED.get(call.name, (0, set(), ""))
        if not given or not call.inputs:
            continue
        source = _source(case, call)
        if source is None or source.name not in given:
            continue
        x = case.inputs(call)[0]
        yield Finding(
            "softmax twice",
            source.module,
            f"{call.name} {takes}, and is given the output of {source.title}, in "
            f"[{number(x.low)}, {number(x.high)}]: the loss can come down only part of the way.",
            operation=source.name,
            formula=call.spec.formula if call.spec else "",
            tensors=case.inputs(call),
            numbers={"low": x.low, "high": x.high, "loss": call.name},
        )


def _source(case: Case, call: Call) -> Call | None:
    """What made the first input, seen through changes of shape."""
    key = next(iter(call.inputs))
    maker = case.watch.made(key)
    while maker is not None and maker.name in _MOVING and maker.inputs:
        maker = case.watch.made(next(iter(maker.inputs)))
    return maker


def inputs(case: Case) -> Iterator[Finding]:
    """Inputs of a scale that the first layer cannot do with."""
    for name, tensor in case.given.items():
        if not tensor.is_floating_point() or tensor.ndim < 2 or name.startswith("target"):
            continue
        summary = summarize(tensor, name)
        if not summary.rms > INPUT_RMS:
            continue
        first = _first_use(case, tensor)
        if first is None or not first.name.startswith(_LINEAR):
            continue
        yield Finding(
            "inputs not normalized",
            name,
            f"The root mean square of {name} is {number(summary.rms)}, in "
            f"[{number(summary.low)}, {number(summary.high)}], and {first.title} takes it as it "
            "is: the gradient of its weights is as many times too large for the rate that suits "
            "the other layers.",
            operation=first.name,
            tensors=(summary,),
            numbers={"rms": summary.rms, "low": summary.low, "high": summary.high},
        )


def _first_use(case: Case, tensor: Tensor) -> Call | None:
    """The first call that computes with it."""
    key = (id(tensor), tensor._version)
    for _ in range(8):
        users = case.watch.users(key)
        if not users:
            return None
        if users[0].name not in _MOVING or not users[0].outputs:
            return users[0]
        key = next(iter(users[0].outputs))
    return None


def constant(case: Case) -> Iterator[Finding]:
    """Normalization layers whose input does not vary where they measure its variance."""
    for call in case.watch.calls:
        if call.name not in _NORMALIZING or not call.inputs:
            continue
        (_, version), x = next(iter(call.inputs.items()))
        if x._version != version or x.numel() == 0:
            continue
        variance, what = _variance(call, x.detach().double())
        if variance is None:
            continue
        eps = _eps(call)
        still = variance < eps
        share = still.double().mean().item()
        if share < CONSTANT_SHARE:
            continue
        gain = 1 / math.sqrt(eps)
        yield Finding(
            "nothing varies",
            call.module,
            f"{int(still.sum())} of {still.numel()} {what} have a variance below eps = {eps:g} "
            f"(the largest {number(float(variance[still].max()))}): instead of by their own "
            f"spread they are divided by sqrt(eps), and the gradient is multiplied by up to "
            f"{number(gain)}.",
            operation=call.name,
            formula=call.spec.formula if call.spec else "",
            tensors=case.inputs(call),
            numbers={"share": share, "eps": eps, "still": int(still.sum())},
        )
        return  # what is constant here is constant in all that follows


def _variance(call: Call, x: Tensor) -> tuple[Tensor | None, str]:
    """Variances of the groups that the call normalizes, and what a group is."""
    if call.name == "batch_norm":
        training = call.argument(5, "training", False)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        return (x.var(axes, correction=0) if training else None), "channels"
    if call.name == "layer_norm":
        shape = call.argument(1, "normalized_shape", x.shape[-1:])
        axes = list(range(-len(tuple(shape)), 0))
        return x.var(axes, correction=0).flatten(), "rows"
    if call.name == "group_norm":
        groups = call.argument(1, "num_groups", 1)
        return x.reshape(len(x), groups, -1).var(-1, correction=0).flatten(), "groups"
    return x.flatten(2).var(-1, correction=0).flatten(), "channels of an example"


def _eps(call: Call) -> float:
    position = {"batch_norm": 7, "layer_norm": 4, "group_norm": 4, "instance_norm": 7}[call.name]
    return float(call.argument(position, "eps", _NORMALIZING[call.name]))


def padding(case: Case) -> Iterator[Finding]:
    """Embeddings whose padding row is not zero: no gradient will ever correct it."""
    for path, module in case.modules.items():
        if not isinstance(module, (torch.nn.Embedding, torch.nn.EmbeddingBag)):
            continue
        row = module.padding_idx
        if row is None or path not in case.watch.called or not module.weight[row].any():
            continue
        size = float(module.weight.detach()[row].double().norm())
        yield Finding(
            "padding row",
            f"{path}.weight" if path else "weight",
            f"Row {row} is the padding's and gets no gradient, but it is not zero (norm "
            f"{number(size)}): every padded place adds these numbers, now and after training.",
            operation="embedding",
            numbers={"row": row, "norm": size},
        )
