from contextlib import nullcontext

import pytest
import torch

import manual_bp
import manual_bp.nn
from lightning_modules.networks import ConvNet
from lightning_modules.networks.convnet import LocallyConnected2d


@pytest.mark.parametrize("shared", [True, False])
def test_both_namespaces_give_one_network(shared: bool) -> None:
    made, found = [], []
    x, cotangent = torch.randn(3, 2, 9, 8).double(), torch.randn(3, 5).double()
    for nn in (manual_bp.nn, torch.nn):
        torch.manual_seed(0)
        net = ConvNet(nn, (9, 8), 2, (3, 4), 3, 5, shared).double()
        with manual_bp.by_hand() if nn is manual_bp.nn else nullcontext():
            y = net(x)
        y.backward(cotangent)
        made.append({name: p.detach() for name, p in net.named_parameters()})
        found.append({name: p.grad for name, p in net.named_parameters()} | {"y": y.detach()})
    torch.testing.assert_close(*made, rtol=0, atol=0)
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_shared_gradients_are_the_sums_of_unshared_ones() -> None:
    torch.manual_seed(0)
    shared = ConvNet(manual_bp.nn, (9, 8), 2, (3, 4), 3, 5).double()
    unshared = shared.unshared(manual_bp.nn)
    x, cotangent = torch.randn(6, 2, 9, 8).double(), torch.randn(6, 5).double()
    outputs = []
    for net in (shared, unshared):
        with manual_bp.by_hand():
            outputs.append(net(x))
        assert manual_bp.audit(outputs[-1]).all_by_hand
        outputs[-1].backward(cotangent)
    torch.testing.assert_close(*outputs)
    for name, parameter in shared.named_parameters():
        own = unshared.get_parameter(name).grad
        assert own is not None and parameter.grad is not None
        if not name.startswith("output"):
            assert len(own) > 1 and not torch.allclose(own[0], own[1])
            own = own.sum(0)
        torch.testing.assert_close(own.view_as(parameter), parameter.grad)


def test_each_position_has_filters_of_its_own() -> None:
    layer = LocallyConnected2d(torch.nn, 2, 3, 3, (5, 7), stride=2, padding=1)
    x = torch.randn(4, 2, 5, 7)
    y = layer(x)
    assert y.shape == (4, 3, 3, 4)
    torch.nn.init.zeros_(layer.weight[5])  # row 1, column 1
    torch.nn.init.zeros_(layer.bias[5])
    assert layer(x[:0]).shape == (0, 3, 3, 4)
    changed = (layer(x) != y).any(0).any(0)
    assert changed.nonzero().tolist() == [[1, 1]]


def test_it_starts_as_a_convolution_does() -> None:
    torch.manual_seed(0)
    layer = LocallyConnected2d(torch.nn, 4, 8, 5, (14, 14))
    conv = torch.nn.Conv2d(4, 800, 5)
    for own, its in ((layer.weight, conv.weight), (layer.bias, conv.bias)):
        assert its is not None
        spread, expected = float(own.detach().std()), float(its.detach().std())
        assert spread == pytest.approx(expected, rel=0.05)
        assert 0.099 < own.detach().abs().max() <= 0.1  # 1 / sqrt(4 * 5 * 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": (8, 0)}, r"must be positive, got \(28, 28\), 1, \(8, 0\) and 10"),
        ({"kernel_size": 4}, "kernel_size must be odd and positive, got 4"),
    ],
)
def test_bad_arguments(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvNet(torch.nn, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a filter of 5x5 does not fit into 3x4 with padding 0"):
        LocallyConnected2d(torch.nn, 1, 1, 5, (3, 4))
