import copy
from collections.abc import Callable
from functools import partial
from types import ModuleType

import pytest
import torch

import manual_bp
from lightning_modules.networks import MLP, ResidualMLP, ResNet, ShiftingMLP

NETWORKS: dict[str, tuple[Callable[[ModuleType], torch.nn.Module], tuple[int, ...]]] = {
    "mlp": (partial(MLP, in_features=6, hidden=(5, 4), out_features=3), (7, 6)),
    "linear": (partial(MLP, in_features=6, hidden=(), out_features=3), (7, 6)),
    "tanh": (partial(MLP, in_features=6, activation="Tanh", out_features=3), (7, 6)),
    "batch norm": (partial(MLP, in_features=6, normalization="BatchNorm1d"), (7, 6)),
    "layer norm": (
        partial(MLP, in_features=6, activation="GELU", normalization="LayerNorm"),
        (7, 6),
    ),
    "dropout": (partial(MLP, in_features=6, dropout=0.4), (7, 6)),
    "images": (partial(MLP, in_features=6), (7, 1, 2, 3)),
    "shifting": (partial(ShiftingMLP, in_features=6, normalization="LayerNorm"), (7, 6)),
    "residual mlp": (partial(ResidualMLP, in_features=6, width=5, blocks=3), (7, 6)),
    "plain mlp": (partial(ResidualMLP, in_features=6, width=5, blocks=3, shortcut=False), (7, 6)),
    "resnet": (partial(ResNet, channels=(3, 4), blocks=(1, 2), classes=5), (2, 1, 8, 6)),
    "resnet rgb": (
        partial(ResNet, in_channels=3, channels=(2, 3, 4), blocks=(1, 1, 1)),
        (2, 3, 9, 7),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_both_namespaces_give_one_network(name: str, training: bool) -> None:
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    manual = build(manual_bp.nn).double().train(training)
    torch.manual_seed(0)
    native = build(torch.nn).double().train(training)
    # the same draws from the same seed, under the same names
    torch.testing.assert_close(manual.state_dict(), native.state_dict(), rtol=0, atol=0)

    x = torch.randn(shape, dtype=torch.float64)
    torch.manual_seed(1)
    with manual_bp.by_hand():
        by_hand = manual(x)
    torch.manual_seed(1)
    by_autograd = native(x)
    torch.testing.assert_close(by_hand, by_autograd, rtol=1e-10, atol=1e-12)
    assert manual_bp.audit(by_hand).all_by_hand
    assert not manual_bp.audit(by_autograd).all_by_hand

    cotangent = torch.randn_like(by_hand)
    by_hand.backward(cotangent)
    by_autograd.backward(cotangent)
    for (parameter, p), (_, q) in zip(
        manual.named_parameters(), native.named_parameters(), strict=True
    ):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12, msg=parameter)
    torch.testing.assert_close(manual.state_dict(), native.state_dict(), rtol=1e-10, atol=1e-12)


def test_names_say_what_and_where() -> None:
    mlp = MLP(torch.nn, hidden=(3, 2), normalization="LayerNorm", dropout=0.1)
    layers = ["linear", "norm", "activation", "dropout"]
    expected = ["flatten", *(f"{layer}{i}" for i in (1, 2) for layer in layers), "output"]
    assert [name for name, _ in mlp.named_children()] == expected
    blocks = [
        name for name, m in ResNet(torch.nn, blocks=(1, 2)).named_modules() if hasattr(m, "conv1")
    ]
    assert blocks == ["stage1.block1", "stage2.block1", "stage2.block2"]


def test_resnet_halves_the_image_at_each_stage_and_pools_what_is_left() -> None:
    net = ResNet(torch.nn, channels=(3, 4, 5), blocks=(1, 2, 1))
    seen = []
    pool = net.get_submodule("pool")
    pool.register_forward_hook(lambda _, maps, pooled: seen.extend([*maps, pooled]))
    net(torch.randn(2, 1, 9, 8))
    maps, pooled = seen
    assert maps.shape == (2, 5, 3, 2)
    torch.testing.assert_close(pooled[..., 0, 0], maps.mean((2, 3)))
    # No dead end: a block whose residual branch is silent passes its input on.
    block = copy.deepcopy(net.get_submodule("stage2.block2"))
    torch.nn.init.zeros_(block.get_parameter("norm2.weight"))
    x = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(x), x)


def test_a_block_whose_branch_is_silent_hands_on_its_input_and_the_gradient() -> None:
    x = torch.rand(4, 3, requires_grad=True)
    for shortcut in (True, False):
        block = ResidualMLP(torch.nn, width=3, blocks=2, shortcut=shortcut).get_submodule("block2")
        torch.nn.init.zeros_(block.get_parameter("norm5.weight"))
        y = block(x)
        cotangent = torch.randn_like(y)
        (gradient,) = torch.autograd.grad(y, x, cotangent)
        assert torch.equal(y, x if shortcut else torch.zeros_like(x))
        assert torch.equal(gradient, cotangent if shortcut else torch.zeros_like(x))


def test_plain_and_residual_differ_in_the_shortcuts_alone() -> None:
    made = []
    for shortcut in (True, False):
        torch.manual_seed(0)
        made.append(ResidualMLP(torch.nn, blocks=9, shortcut=shortcut))
    torch.testing.assert_close(made[0].state_dict(), made[1].state_dict(), rtol=0, atol=0)
    linear = [m for m in made[0].modules() if isinstance(m, torch.nn.Linear)]
    assert len(linear) == 20


def test_shifts_are_those_of_a_unit_new_at_every_step_and_none_in_evaluation() -> None:
    torch.manual_seed(0)
    mlp = ShiftingMLP(torch.nn, 2.0, 1.5, hidden=(400,), normalization="BatchNorm1d").double()
    seen: list[torch.Tensor] = []
    mlp.get_submodule("activation1").register_forward_hook(
        lambda _, inputs, output: seen.extend(inputs)
    )
    x = torch.randn(50, 64, dtype=torch.float64)
    mlp(x), mlp(x)
    means = [values.detach().mean(0) for values in seen]  # BatchNorm's own are 0
    spreads = [values.detach().std(0, correction=0) for values in seen]
    assert not torch.equal(*means)
    for mean, spread in zip(means, spreads, strict=True):
        assert 1.9 < mean.abs().max() <= 2 and mean.mean().abs() < 0.3
        assert 0.99 < spread.min() and 1.45 < spread.max() <= 1.5
    mlp.eval()
    assert torch.equal(mlp(x), mlp(x))


def test_a_bias_before_batch_norm_would_have_no_effect() -> None:
    for normalization, biased in ((None, True), ("LayerNorm", True), ("BatchNorm1d", False)):
        mlp = MLP(torch.nn, normalization=normalization)
        assert ("linear1.bias" in mlp.state_dict()) == biased
        assert "output.bias" in mlp.state_dict()


def test_he_initialization() -> None:
    conv = ResNet(torch.nn, channels=(64, 64)).get_parameter("stage1.block1.conv1.weight")
    assert float(conv.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda nn: MLP(nn, hidden=(0,)), r"must be positive, got 64, \(0,\) and 10"),
        (lambda nn: MLP(nn, dropout=1.0), r"dropout must lie in \[0, 1\), got 1.0"),
        (lambda nn: MLP(nn, activation="Relu"), "has no layer 'Relu'; did you mean 'ReLU'"),
        (lambda nn: MLP(nn, normalization="functional"), "has no layer 'functional'"),
        (
            lambda nn: ResNet(nn, channels=(4,), blocks=(1, 1)),
            r"one entry for each stage, got \(4,\)",
        ),
        (lambda nn: ResidualMLP(nn, width=0), "not negative, got 64, 0, 10 and 9"),
        (lambda nn: ShiftingMLP(nn), "normalization must name a layer"),
        (lambda nn: ShiftingMLP(nn, shift=-1.0), "got -1.0 and 1.25"),
        (lambda nn: ShiftingMLP(nn, scale=0.5), "got 1.0 and 0.5"),
        (lambda nn: ResNet(nn, channels=(), blocks=()), "one entry for each stage"),
        (lambda nn: ResNet(nn, blocks=(1, 0)), "must be positive, got 1"),
    ],
)
@pytest.mark.parametrize("nn", [torch.nn, manual_bp.nn])
def test_bad_arguments(build: Callable[[ModuleType], object], message: str, nn: ModuleType) -> None:
    with pytest.raises(ValueError, match=message):
        build(nn)


def test_a_layer_that_is_not_by_hand_yet_is_named() -> None:
    with pytest.raises(ValueError, match=r"SyncBatchNorm"):
        MLP(manual_bp.nn, activation="SyncBatchNorm")
