"""All of torch.nn: what is not by hand stands in a list, with the reason."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import manual_bp
from manual_bp.by_hand import replacement
from manual_bp.coverage import LEFT_OUT
from manual_bp.spec import Draw


def test_every_module_of_torch_nn_is_here_or_left_out_for_a_reason() -> None:
    public = {name for name, value in vars(nn).items() if inspect.isclass(value)}
    left = {name for name in public if not hasattr(manual_bp.nn, name)}
    assert left == {k.removeprefix("torch.nn.") for k in LEFT_OUT if k.count(".") == 2}
    for name in public - left:
        ours = getattr(manual_bp.nn, name)
        assert issubclass(ours, getattr(nn, name)), name


# What torch.nn.functional holds beside the functions of layers.
HELPERS = {"assert_int_or_pair", "boolean_dispatch"}


def test_every_function_of_torch_nn_is_by_hand_or_left_out_for_a_reason() -> None:
    public = {
        name
        for name, value in vars(F).items()
        if callable(value)
        and not inspect.isclass(value)
        and not name.startswith(("_", "handle_torch_function", "has_torch_function"))
        and getattr(value, "__module__", "torch") not in ("typing", "torch.overrides")
    }
    left = {
        name
        for name in public - HELPERS
        if replacement(getattr(F, name), {}) is None and name not in manual_bp.functional.__all__
    }
    assert left == {k.rsplit(".", 1)[1] for k in LEFT_OUT if ".functional." in k}


def test_a_module_that_is_left_out_says_why() -> None:
    with pytest.raises(AttributeError, match="several processes"):
        _ = manual_bp.nn.SyncBatchNorm


X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))

LAZY = [
    ("LazyLinear", (5,), X),
    ("LazyConv1d", (5, 3), X[:, :, 0]),
    ("LazyConv2d", (5, 3), X),
    ("LazyConv3d", (5, 3), X.unsqueeze(2).repeat(1, 1, 3, 1, 1)),
    ("LazyConvTranspose1d", (5, 3), X[:, :, 0]),
    ("LazyConvTranspose2d", (5, 3), X),
    ("LazyConvTranspose3d", (5, 3), X.unsqueeze(2)),
    ("LazyBatchNorm1d", (), X[:, :, 0]),
    ("LazyBatchNorm2d", (), X),
    ("LazyBatchNorm3d", (), X.unsqueeze(2)),
    ("LazyInstanceNorm1d", (), X[:, :, 0]),
    ("LazyInstanceNorm2d", (), X),
    ("LazyInstanceNorm3d", (), X.unsqueeze(2)),
]


@pytest.mark.parametrize(("name", "given", "x"), LAZY, ids=[name for name, *_ in LAZY])
def test_lazy_modules_become_layers_by_hand(
    name: str, given: tuple[int, ...], x: torch.Tensor
) -> None:
    lazy = getattr(manual_bp.nn, name)(*given)
    x = x.clone().requires_grad_()
    torch.manual_seed(0)
    first = lazy(x)
    assert type(lazy) is getattr(manual_bp.nn, name.removeprefix("Lazy"))
    assert manual_bp.audit(first).all_by_hand
    torch.manual_seed(0)
    native = getattr(nn, name)(*given)
    expected = native(x)
    assert torch.equal(first, expected)
    leaves = [x, *lazy.parameters()], [x, *native.parameters()]
    cotangent = Draw(1, torch.float32).fixed(*first.shape)
    found, wanted = (
        torch.autograd.grad(y, given, cotangent)
        for y, given in zip((first, expected), leaves, strict=True)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    if "InstanceNorm" in name:
        return  # after load_state_dict torch's own do not know their size, either
    again = getattr(manual_bp.nn, name)(*given)
    again.load_state_dict(native.state_dict())
    assert repr(again(x).shape) == repr(expected.shape)


def test_what_torchs_lazy_modules_are_here() -> None:
    lazy = {name for name in dir(nn) if name.startswith("Lazy")}
    assert lazy == {name for name, *_ in LAZY}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("channels", [3, 6])
def test_cross_map_lrn_computes_what_torch_does(size: int, channels: int) -> None:
    x = torch.randn(2, channels, 2, 3, dtype=torch.float64)
    native = nn.CrossMapLRN2d(size, 0.5, 0.6, 2.0)
    manual = manual_bp.nn.CrossMapLRN2d(size, 0.5, 0.6, 2.0)
    torch.testing.assert_close(manual(x), native(x), rtol=1e-12, atol=1e-12)


def test_torchs_own_gradient_of_cross_map_lrn_is_wrong() -> None:
    """Once it is right, the reference in the layer's file can be torch's own."""
    x = torch.randn(2, 5, 2, 3, dtype=torch.float64, requires_grad=True)
    assert not torch.autograd.gradcheck(nn.CrossMapLRN2d(3, 0.5), x, raise_exception=False)
    assert torch.autograd.gradcheck(manual_bp.nn.CrossMapLRN2d(3, 0.5), x)


def test_adaptive_log_softmax_of_all_classes() -> None:
    manual = manual_bp.nn.AdaptiveLogSoftmaxWithLoss(4, 10, [2, 6], div_value=2.0)
    native = nn.AdaptiveLogSoftmaxWithLoss(4, 10, [2, 6], div_value=2.0)
    native.load_state_dict(manual.state_dict())
    x = torch.randn(5, 4)
    y = manual.log_prob(x)
    assert manual_bp.audit(y).all_by_hand
    torch.testing.assert_close(y, native.log_prob(x))
