"""What explain() records is what happens: every gradient autograd's, nothing told twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import manual_bp
from manual_bp.explain import Explanation, explain

from .networks import LSTM, NETWORKS, gpt, made, mlp

RTOL = 1e-10  # what the project asks of float64


def _stepped(model: nn.Module, inputs: Any, target: Any, loss: Any, optimizer: Any) -> Any:
    """The step as one takes it with autograd: gradients and new weights by name."""
    torch.manual_seed(1)
    loss(model(*inputs), target).backward()
    stepping = optimizer(model.parameters())
    stepping.step()
    named = dict(model.named_parameters())
    return {n: p.grad for n, p in named.items()}, {n: p.detach() for n, p in named.items()}


def _assert_equal(step: Explanation, gradients: Any, weights: Any, rtol: float = RTOL) -> None:
    assert step.error is not None
    assert step.error < rtol
    for operation in step:
        assert operation.by_hand, operation.title
        assert operation.error is None or operation.error < rtol, operation.title
    for update in step.updates:
        assert update.gradient is not None
        largest = float(gradients[update.name].abs().max())
        torch.testing.assert_close(
            update.gradient, gradients[update.name], rtol=0, atol=rtol * max(largest, 1e-6)
        )
        assert update.after is not None
        torch.testing.assert_close(update.after, weights[update.name], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("layers", [nn, manual_bp.nn], ids=["torch.nn", "manual_bp.nn"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_gradient_and_weight_is_that_of_a_step_by_autograd(name: str, layers: Any) -> None:
    model, inputs, target, loss = made(NETWORKS[name], layers)
    native, *_ = made(NETWORKS[name], nn)
    gradients, weights = _stepped(
        native, inputs, target, loss, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)
    )
    torch.manual_seed(1)
    step = explain(
        model,
        *inputs,
        target=target,
        loss=loss,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    )
    _assert_equal(step, gradients, weights)
    assert not step.notes
    assert len(step.backward) == sum(o.reached for o in step)


def test_gpt2_of_the_transformers_library() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the transformers library")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).double()
    ids = torch.randint(50, (2, 7))

    def loss(output: Any, target: Tensor) -> Tensor:  # the model's own computes it in float32
        return F.cross_entropy(output.logits[:, :-1].flatten(0, 1), target[:, 1:].flatten())

    native = copy.deepcopy(model)
    gradients, weights = _stepped(native, (ids,), ids, loss, lambda p: torch.optim.SGD(p, lr=0.1))
    torch.manual_seed(1)
    step = explain(
        model, ids, target=ids, loss=loss, optimizer=lambda p: torch.optim.SGD(p, lr=0.1)
    )
    _assert_equal(step, gradients, weights)
    tied = step.update("transformer.wte.weight")  # embedding and read-out share it
    uses = [s.gradient for o in step for s in o.parameters if s.parameter == tied.name]
    assert len(uses) == 2
    torch.testing.assert_close(sum(uses), tied.gradient, rtol=RTOL, atol=1e-16)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, lr=0.01),
        lambda p: torch.optim.RMSprop(p, lr=0.01),
        lambda p: manual_bp.optim.Adam(p, lr=0.01),
        lambda p: manual_bp.optim.Adagrad(p, lr=0.01),
    ],
    ids=["SGD", "AdamW", "RMSprop", "Adam by hand", "Adagrad by hand"],
)
def test_updated_weights_are_the_optimizers(optimizer: Callable[..., Any]) -> None:
    model, inputs, target, loss = made(mlp)
    held = optimizer(model.parameters())
    for _ in range(2):  # so that it remembers something
        held.zero_grad()
        loss(model(*inputs), target).backward()
        held.step()
    torch.manual_seed(3)
    step = explain(model, *inputs, target=target, loss=loss, optimizer=held)
    torch.manual_seed(3)
    held.zero_grad()
    loss(model(*inputs), target).backward()
    held.step()
    assert step.optimizer == type(held).__name__
    for name, p in model.named_parameters():
        update = step.update(name)
        assert update.after is not None
        # Adam divides by the gradient's own size, rounding noise included.
        torch.testing.assert_close(update.after, p.detach(), rtol=1e-7, atol=1e-9)
        assert update.error_after is not None
        assert update.error_after < RTOL
        assert update.rule


def test_nothing_is_left_changed() -> None:
    model, inputs, target, loss = made(mlp)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    loss(model(*inputs), target).backward()
    optimizer.step()
    inputs[0].requires_grad_()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), inputs, target))
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    random, kinds = torch.get_rng_state(), [type(m) for m in model.modules()]
    ours = vars(manual_bp.Function)["apply"]
    apply, hooks = torch.autograd.Function.apply, [len(m._forward_hooks) for m in model.modules()]
    explain(model, *inputs, target=target, loss=loss, optimizer=optimizer)
    after = (model.state_dict(), optimizer.state_dict(), inputs, target)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    torch.testing.assert_close([p.grad for p in model.parameters()], gradients, rtol=0, atol=0)
    assert inputs[0].grad is None
    assert torch.equal(torch.get_rng_state(), random)
    assert [type(m) for m in model.modules()] == kinds
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert torch.autograd.Function.apply == apply
    assert vars(manual_bp.Function)["apply"] is ours


def test_a_wrong_gradient_is_seen_where_it_is() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return F.gelu(x)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(inputs[0])

        @staticmethod
        def backward(ctx: Any, grad_y: Tensor) -> Tensor:
            return grad_y * 1.001

    model, inputs, target, loss = made(gpt)
    with manual_bp.register(F.gelu, lambda x, approximate="none": Wrong.apply(x)):
        step = explain(model, *inputs, target=target, loss=loss)
    assert step.error is not None
    assert step.error > 1e-6
    first = next(
        step.operations[i] for i in step.backward if (step.operations[i].error or 0) > 1e-6
    )
    assert first.module == "blocks.block2.mlp.gelu"
    (x,), (y,) = first.inputs, first.outputs
    assert y.error is not None and y.error < RTOL  # what arrives is right
    assert x.error is not None and x.error > 1e-6  # what leaves is not


def test_inside_by_hand_it_still_compares_with_autograd() -> None:
    model, inputs, target, loss = made(mlp)
    wrong = manual_bp.register(F.gelu, lambda x, approximate="none": x * x.detach())
    with wrong, manual_bp.by_hand(), manual_bp.by_hand(only="linear"):
        step = explain(model, *inputs, target=target, loss=loss)
        y = F.gelu(torch.ones(2, requires_grad=True))
    assert step.error is not None and step.error > 1e-3
    assert y.tolist() == [1.0, 1.0]  # and the caller is in by_hand() as before


def test_a_composed_operation_is_told_once() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    x = torch.randn(2, 5, 8).double()
    step = explain(attention, x, x, x, target=torch.randn(2, 5, 8).double())
    names = [operation.name for operation in step]
    assert names.count("multi_head_attention") == 1
    assert "linear" not in names
    for layers in (nn, manual_bp.nn):
        network = LSTM(layers).double()
        step = explain(network, torch.randn(2, 5, 3).double(), target=torch.tensor([0, 2]))
        assert [o.name for o in step] == ["lstm", "getitem", "linear", "cross_entropy"]
        assert step.operations[0].inputs[3].parameter == "lstm.weight_ih_l0"


def test_order_places_and_producers() -> None:
    model, inputs, target, loss = made(gpt)
    step = explain(model, *inputs, target=target, loss=loss)
    assert [o.index for o in step] == list(range(len(step.operations)))
    add = next(o for o in step if o.module == "blocks.block1" and o.name == "add")
    stream, found = add.inputs
    assert stream.producer is not None and found.producer is not None
    assert step.operations[stream.producer].title == "add"
    assert step.operations[found.producer].module == "blocks.block1.drop"
    assert step.operations[-1].module == "loss"
    assert torch.equal(step.operations[found.producer].outputs[0].value, found.value)
    # The stream is used twice: what arrives at it is the sum of both shares.
    made_by = step.operations[stream.producer]
    shares = [s.gradient for o in step for s in o.inputs if s.producer == made_by.index]
    assert len(shares) == 2
    torch.testing.assert_close(sum(shares), made_by.outputs[0].gradient, rtol=RTOL, atol=1e-16)
    assert add.inputs[0].slope is not None and bool((add.inputs[0].slope == 1).all())


def test_slopes_and_dead_and_saturated_units() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[-1.0, 2.0, 30.0]]))

        def forward(self, x: Tensor) -> Tensor:
            y = x * self.w
            return (torch.relu(y) + torch.sigmoid(y)).softmax(-1)

    step = explain(Net(), torch.tensor([[1.0], [0.5]]), loss=lambda y: (y**2).sum())
    times, relu, sigmoid, add, softmax, *_ = step
    assert relu.inputs[0].slope is not None
    assert relu.inputs[0].slope.tolist() == [[0, 1, 1], [0, 1, 1]]
    assert relu.dead == pytest.approx(1 / 3)
    assert relu.dead_units == pytest.approx(1 / 3)
    assert sigmoid.dead == 0 or sigmoid.saturated is not None
    assert (sigmoid.dead or 0) + (sigmoid.saturated or 0) == pytest.approx(1 / 3)
    assert softmax.inputs[0].slope is None  # every output depends on every input
    assert times.inputs[1].slope is None  # broadcast
    assert add.dead is None


def test_gradients_that_the_model_calls_directly_are_told_too() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x**3

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, grad_y: Tensor) -> Tensor:
            return 3 * ctx.saved_tensors[0] ** 2 * grad_y

    class Net(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = manual_bp.functional.linear(x, self.weight, self.bias)
            return manual_bp.functional.layer_norm(Cube.apply(y), (3,))

    torch.manual_seed(0)
    step = explain(
        Net(2, 3).double(), torch.randn(4, 2).double(), target=torch.randn(4, 3).double()
    )
    assert [o.name for o in step] == ["linear", "Cube", "layer_norm", "mse_loss"]
    assert [s.name for s in step.operations[0].symbols] == ["x", "W", "b", "y"]
    assert step.error is not None and step.error < RTOL


def test_in_place_detached_frozen_and_unused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.frozen, self.unused = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
            self.frozen.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            y = self.frozen(F.relu(y, inplace=True)) + y.detach() * 2
            y[0] = y[1] * 3
            y += 1
            return y

    torch.manual_seed(0)
    step = explain(Net().double(), torch.randn(4, 3).double(), target=torch.randn(4, 3).double())
    assert step.error is not None and step.error < RTOL
    detach = next(o for o in step if o.name == "detach")
    assert detach.ends_gradient and not detach.reached
    assert not step.update("frozen.weight").wanted
    assert step.update("unused.weight").gradient is None
    assert step.update("a.weight").gradient is not None


def test_a_checkpoint_is_told_once() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 3), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.layers, x, use_reentrant=False)

    torch.manual_seed(0)
    step = explain(Net().double(), torch.randn(2, 3).double(), target=torch.randn(2, 3).double())
    assert [o.name for o in step] == ["linear", "tanh", "mse_loss"]
    assert step.error is not None and step.error < RTOL and not step.notes


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: explain(cast(nn.Module, len)),
            TypeError,
            "takes a torch.nn.Module, got builtin",
        ),
        (lambda: explain(nn.Linear(2, 1), torch.ones(3, 3)), ValueError, r"shape \(3, 3\)"),
        (lambda: explain(nn.Linear(2, 1), torch.ones(3, 2)), ValueError, "give a target"),
        (
            lambda: explain(nn.Linear(2, 1), torch.ones(3, 2), loss=lambda y: y),
            ValueError,
            r"one number, got float32 of shape \(3, 1\)",
        ),
        (
            lambda: explain(nn.Linear(2, 1), torch.ones(3, 2), loss=lambda y: 3.0),
            ValueError,
            "one number, got float",
        ),
        (
            lambda: explain(nn.Identity(), torch.ones((), requires_grad=True)),
            ValueError,
            "no torch call that could be seen",
        ),
        (
            lambda: explain(
                nn.Linear(2, 1).requires_grad_(False), torch.ones(3, 2), loss=lambda y: y.sum()
            ),
            ValueError,
            "nothing that requires a gradient",
        ),
        (
            lambda: explain(
                nn.Linear(2, 1),
                torch.ones(3, 2),
                target=torch.ones(3, 1),
                optimizer=torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=1),
            ),
            ValueError,
            "none of the model's parameters",
        ),
    ],
)
def test_bad_input_is_one_sentence(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
