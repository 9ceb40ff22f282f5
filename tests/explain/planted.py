"""Networks with one fault each, and where the diagnosis has to see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks import MLP

PLANTED: list[Planted] = []


@dataclass
class Planted:
    """A fault.

    Attributes:
        name: Of the fault.
        build: Makes the arguments of ``diagnose``: model, inputs, keyword arguments.
        kind: Of the finding that has to be there.
        where: Module or parameter that it has to name.
        operation: torch's function that it has to name, "" for any.
        alone: Whether nothing else may be found.
        says: What the text has to contain.
    """

    name: str
    build: Callable[[], tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]
    kind: str
    where: str
    operation: str = ""
    alone: bool = True
    says: tuple[str, ...] = field(default=())


def _plant(kind: str, where: str, operation: str = "", *says: str, alone: bool = True) -> Any:
    def register(build: Callable[[], Any]) -> Callable[[], Any]:
        PLANTED.append(Planted(build.__name__, build, kind, where, operation, alone, says))
        return build

    return register


def _mlp(**arguments: Any) -> Any:
    settings: dict[str, Any] = {"in_features": 12, "hidden": (32, 32), "out_features": 4}
    return MLP(nn, **(settings | arguments))


def _data(*shape: int, classes: int = 4) -> tuple[Tensor, dict[str, Any]]:
    shape = shape or (32, 12)
    return torch.randn(shape), {"target": torch.randint(classes, shape[:1])}


def _given(model: nn.Module, x: Tensor, rest: dict[str, Any], **more: Any) -> Any:
    return model, (x,), rest | more


class Model(nn.Module):
    """Layers by name, and a forward of one's own."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.run = forward

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


# Numbers that are none.


@_plant("parameter not finite", "linear2.weight", "linear", "1 NaN of 1024", "[3, 5]")
def nan_in_one_weight() -> Any:
    model: Any = _mlp()
    with torch.no_grad():
        model.linear2.weight[3, 5] = float("nan")
    return _given(model, *_data())


@_plant("parameter not finite", "norm1.weight", "batch_norm", "1 infinite")
def infinity_in_a_scale() -> Any:
    model: Any = _mlp(normalization="BatchNorm1d")
    with torch.no_grad():
        model.norm1.weight[2] = float("inf")
    return _given(model, *_data())


@_plant("input not finite", "inputs[0]", "", "1 NaN of 384")
def nan_in_the_data() -> Any:
    x, rest = _data()
    x[7, 3] = float("nan")
    return _given(_mlp(), x, rest)


@_plant("not finite forward", "", "log", "are 0, where its value is infinite")
def logarithm_of_zero() -> Any:
    model: Any = Model(lambda m, x: m.head(m.body(x).relu().log()), body=nn.Linear(12, 8),
                  head=nn.Linear(8, 4))  # fmt: skip
    return _given(model, *_data())


@_plant("not finite forward", "", "div", "1 of 32 numbers in the divisor are 0")
def division_by_zero() -> Any:
    x, rest = _data()
    x[4] = 0

    def normalized(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            length = x.norm(dim=1, keepdim=True)
        return m.head(x / length)

    return _given(Model(normalized, head=nn.Linear(12, 4)), x, rest)


@_plant("not finite forward", "softmax", "exp", "exp leaves the range of float32 above 88.7")
def naive_softmax_overflows() -> Any:
    class Naive(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            e = torch.exp(x)
            return e / e.sum(1, keepdim=True)

    model: Any = nn.Sequential()
    model.add_module("linear", nn.Linear(12, 4))
    model.add_module("softmax", Naive())
    nn.init.normal_(model.linear.weight, std=60.0)
    x, rest = _data()
    loss = lambda p, y: -p.log().gather(1, y[:, None]).mean()  # noqa: E731
    return _given(model, x, rest, loss=loss)


@_plant("not finite forward", "attention", "softmax", "A whole row is masked with -inf")
def row_that_is_masked_altogether() -> Any:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mask = torch.zeros(6, 6, dtype=torch.bool)
            mask[2] = True
            scores = x @ x.transpose(1, 2)
            return scores.masked_fill(mask, float("-inf")).softmax(-1) @ x

    model: Any = Model(lambda m, x: m.head(m.attention(x).mean(1)), attention=Attention(),
                  head=nn.Linear(12, 4))  # fmt: skip
    return _given(model, *_data(8, 6, 12))


@_plant("not finite forward", "linear2", "linear", "range of float16", alone=False)
def float16_overflows() -> Any:
    model: Any = _mlp()
    with torch.no_grad():
        model.linear1.weight.mul_(1e4)
        model.linear2.weight.mul_(1e3)
    x, rest = _data()
    return _given(model.half(), x.half(), rest)


@_plant("not finite backward", "", "sqrt", "8 of 256 elements are 0, where its slope is infinite")
def root_at_zero() -> Any:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.body(x).square()
        return m.head((y * m.keep).sqrt())

    model: Any = Model(forward, body=nn.Linear(12, 8), head=nn.Linear(8, 4))
    keep = torch.ones(32, 8)
    keep[:8, 0] = 0
    model.register_buffer("keep", keep)
    return _given(model, *_data())


@_plant("not finite backward", "", "sqrt", "of 256 elements are 0, where its slope is infinite")
def where_hides_only_the_value() -> Any:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.body(x) * (x[:, :1] > 0)
        return m.head(torch.where(y != 0, y.abs().sqrt(), 0.0))

    return _given(Model(forward, body=nn.Linear(12, 8), head=nn.Linear(8, 4)), *_data())


# No gradient.


@_plant("detached", "", "detach", "body.weight, body.bias get no gradient")
def detached_branch() -> Any:
    model: Any = Model(lambda m, x: m.head(m.body(x).detach().relu()), body=nn.Linear(12, 8),
                  head=nn.Linear(8, 4))  # fmt: skip
    return _given(model, *_data())


@_plant("frozen", "linear1", "", "requires_grad=False")
def frozen_layer() -> Any:
    model: Any = _mlp()
    model.linear1.requires_grad_(False)
    return _given(model, *_data())


@_plant("unused", "spare", "", "never called")
def unused_layer() -> Any:
    model: Any = Model(lambda m, x: m.head(x), head=nn.Linear(12, 4), spare=nn.Linear(12, 4))
    return _given(model, *_data())


@_plant("unused", "scale", "", "no operation of the forward pass takes")
def unused_parameter() -> Any:
    model: Any = Model(lambda m, x: m.head(x), head=nn.Linear(12, 4))
    model.register_parameter("scale", nn.Parameter(torch.ones(3)))
    return _given(model, *_data())


@_plant("not in the loss", "second", "linear")
def head_that_the_loss_ignores() -> Any:
    model: Any = Model(lambda m, x: (m.first(x), m.second(x)), first=nn.Linear(12, 4),
                  second=nn.Linear(12, 4))  # fmt: skip
    return _given(model, *_data())


@_plant("not differentiable", "", "argmax", "body.weight, body.bias get no gradient")
def gradient_ends_at_an_argmax() -> Any:
    model: Any = Model(lambda m, x: m.head(m.table(m.body(x).argmax(1))), body=nn.Linear(12, 8),
                  table=nn.Embedding(8, 6), head=nn.Linear(6, 4))  # fmt: skip
    return _given(model, *_data())


@_plant("detached", "", "detach", "table.weight gets no gradient")
def detached_in_a_loop_over_steps() -> Any:
    def forward(m: Any, x: Tensor) -> Tensor:
        total = torch.zeros(16, 6)
        for step in m.table(x.T).type(torch.float32):
            total = total + step.detach()
        return m.head(total)

    model: Any = Model(forward, table=nn.Embedding(10, 6), head=nn.Linear(6, 4))
    tokens = torch.randint(10, (16, 5))
    return model, (tokens,), {"target": torch.randint(4, (16,))}


@_plant("under no_grad", "body", "linear")
def features_under_no_grad() -> Any:
    def forward(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = m.body(x)
        return m.head(features.relu())

    return _given(Model(forward, body=nn.Linear(12, 8), head=nn.Linear(8, 4)), *_data())


@_plant("detached", "loss", "item")
def loss_from_a_python_number() -> Any:
    def loss(y: Tensor, t: Tensor) -> Tensor:
        return torch.tensor(F.cross_entropy(y, t).item(), requires_grad=True)

    return _given(_mlp(), *_data(), loss=loss)


@_plant("detached", "loss", "detach")
def loss_on_a_detached_output() -> Any:
    return _given(_mlp(), *_data(), loss=lambda y, t: F.cross_entropy(y.detach(), t))


class ForgetsItsGradient(torch.autograd.Function):
    """Doubles; returns None for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> None:
        return None


@_plant("no gradient returned", "", "ForgetsItsGradient", "the backward of", "returns None")
def function_that_returns_no_gradient() -> Any:
    model: Any = Model(lambda m, x: m.head(ForgetsItsGradient.apply(m.body(x))),
                  body=nn.Linear(12, 8), head=nn.Linear(8, 4))  # fmt: skip
    return _given(model, *_data())


@_plant("zero gradient", "", "round", "slope of round is 0 everywhere")
def rounding() -> Any:
    model: Any = Model(lambda m, x: m.head(m.body(x).round()), body=nn.Linear(12, 8),
                  head=nn.Linear(8, 4))  # fmt: skip
    return _given(model, *_data())


@_plant("zero gradient", "", "softmax", "one number, whose share is always 1", alone=False)
def softmax_over_one_number() -> Any:
    model: Any = Model(lambda m, x: m.body(x).softmax(1), body=nn.Linear(12, 1))
    x = torch.randn(32, 12)
    return model, (x,), {"target": (x[:, :1] > 0).float()}


@_plant("zero gradient", "embedding", "embedding", "Every index is the padding's",
        alone=False)  # fmt: skip
def nothing_but_padding() -> Any:
    model: Any = Model(lambda m, x: m.head(m.embedding(x).mean(1)),
                  embedding=nn.Embedding(10, 6, padding_idx=0), head=nn.Linear(6, 4))  # fmt: skip
    tokens = torch.zeros(16, 5, dtype=torch.long)
    return model, (tokens,), {"target": torch.randint(4, (16,))}


@_plant("not in the optimizer", "output")
def layer_that_the_optimizer_lacks() -> Any:
    model: Any = _mlp()
    some = [p for n, p in model.named_parameters() if not n.startswith("output")]
    return _given(model, *_data(), optimizer=torch.optim.SGD(some, lr=0.01))


# Units.


@_plant("dead units", "activation1", "relu", "32 of 32 units")
def dead_relus() -> Any:
    model: Any = _mlp()
    nn.init.constant_(model.linear1.bias, -50.0)
    return _given(model, *_data())


@_plant("dead units", "1", "relu", "7 of 8 units")
def dead_channels() -> Any:
    model: Any = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(inplace=True), nn.Flatten(),
                          nn.Linear(288, 4))  # fmt: skip
    with torch.no_grad():
        model[0].bias[:7] = -20.0
    return _given(model, *_data(16, 1, 8, 8))


@_plant("saturated units", "activation2", "sigmoid", alone=False)
def saturated_sigmoids() -> Any:
    model: Any = _mlp(activation="Sigmoid")
    nn.init.normal_(model.linear2.weight, std=30.0)
    return _given(model, *_data())


@_plant("saturated units", "activation1", "tanh", alone=False)
def saturated_tanh() -> Any:
    model: Any = _mlp(activation="Tanh")
    nn.init.normal_(model.linear1.weight, std=20.0)
    return _given(model, *_data())


@_plant("symmetric units", "linear1.weight", "", "All 32 units have the same weights")
def equal_weights() -> Any:
    model: Any = _mlp(hidden=(32,), activation="Tanh")
    nn.init.constant_(model.linear1.weight, 0.1)
    nn.init.zeros_(model.linear1.bias)
    with torch.no_grad():
        model.output.weight.copy_(torch.randn(4, 1).expand(4, 32))
    return _given(model, *_data())


@_plant("symmetric units", "linear1.weight", "", alone=False)
def all_weights_zero() -> Any:
    model: Any = _mlp(hidden=(32,), activation="Tanh")
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return _given(model, *_data())


# Flow.


@_plant("exploding activations", "linear6", "linear", alone=False)
def exploding_initialization() -> Any:
    model: Any = _mlp(hidden=(64,) * 8)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter)
    return _given(model, *_data())


@_plant("exploding activations", "linear2", "linear", alone=False)
def one_layer_too_large() -> Any:
    model: Any = _mlp()
    with torch.no_grad():
        model.linear2.weight.mul_(1e6)
    return _given(model, *_data())


@_plant("exploding gradient", "output.weight")
def target_out_of_all_proportion() -> Any:
    x, _ = _data()
    return _mlp(), (x,), {"target": 1e5 * torch.randn(32, 4)}


@_plant("vanishing gradient", "linear1", "", "a layer")
def chain_of_eight_sigmoids() -> Any:
    return _given(_mlp(hidden=(32,) * 8, activation="Sigmoid"), *_data())


@_plant("vanishing gradient", "linear1", "", "a layer")
def initialization_too_small() -> Any:
    model: Any = _mlp(hidden=(32,) * 8, activation="Tanh")
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
    return _given(model, *_data())


class Last(nn.Module):
    """A recurrent layer, read out at its end."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.layer = nn.RNN(3, 16, nonlinearity="relu", batch_first=True)
        self.output = nn.Linear(16, 4)
        with torch.no_grad():
            self.layer.get_parameter("weight_hh_l0").copy_(factor * torch.eye(16))

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.layer(x)[0][:, -1])


@_plant("exploding through time", "layer", "rnn_relu", "30 steps", alone=False)
def recurrent_weights_above_one() -> Any:
    return _given(Last(1.5), *_data(8, 30, 3))


@_plant("exploding through time", "cell", "linear", "12 steps", alone=False)
def cell_that_is_called_again() -> Any:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = x
        for _ in range(12):
            h = m.cell(h)
        return m.head(h)

    model: Any = Model(forward, cell=nn.Linear(12, 12), head=nn.Linear(12, 4))
    nn.init.orthogonal_(model.cell.weight, gain=3.0)
    return _given(model, *_data())


# Use.


@_plant("softmax twice", "probabilities", "softmax")
def softmax_before_cross_entropy() -> Any:
    model: Any = nn.Sequential()
    model.add_module("linear", nn.Linear(12, 4))
    model.add_module("probabilities", nn.Softmax(dim=1))
    return _given(model, *_data())


@_plant("softmax twice", "", "sigmoid")
def sigmoid_before_a_loss_with_logits() -> Any:
    model: Any = Model(lambda m, x: m.head(x).sigmoid(), head=nn.Linear(12, 1))
    x = torch.randn(32, 12)
    loss = F.binary_cross_entropy_with_logits
    return model, (x,), {"target": (x[:, :1] > 0).float(), "loss": loss}


@_plant("inputs not normalized", "inputs[0]", "linear")
def pixels_of_0_to_255() -> Any:
    x = torch.randint(256, (32, 12)).float()
    return _mlp(), (x,), {"target": torch.randint(4, (32,))}


@_plant("nothing varies", "norm1", "batch_norm", "32 of 32 channels", alone=False)
def batch_of_one_example() -> Any:
    x, rest = _data()
    return _given(_mlp(normalization="BatchNorm1d"), x[:1].repeat(32, 1), rest)


@_plant("padding row", "embedding.weight", "embedding", "Row 0")
def padding_row_that_is_not_zero() -> Any:
    model: Any = Model(lambda m, x: m.head(m.embedding(x).mean(1)),
                  embedding=nn.Embedding(10, 6, padding_idx=0), head=nn.Linear(6, 4))  # fmt: skip
    nn.init.normal_(model.embedding.weight)
    tokens = torch.randint(10, (16, 5))
    return model, (tokens,), {"target": torch.randint(4, (16,))}


# Steps.


@_plant("step too long", "output.weight", "SGD")
def rate_too_high() -> Any:
    model: Any = _mlp()
    return _given(model, *_data(), optimizer=torch.optim.SGD(model.parameters(), lr=100.0))


@_plant("step too long", "output.weight", "Adam")
def rate_too_high_for_adam() -> Any:
    model: Any = _mlp()
    return _given(model, *_data(), optimizer=torch.optim.Adam(model.parameters(), lr=1.0))


@_plant("step too short", "linear1.weight", "SGD", "1e-9")
def rate_too_low() -> Any:
    model: Any = _mlp()
    return _given(model, *_data(), optimizer=torch.optim.SGD(model.parameters(), lr=1e-9))


@_plant("weight decay", "linear1.weight", "SGD")
def weight_decay_swamps_the_loss() -> Any:
    model: Any = _mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, weight_decay=10.0)
    return _given(model, *_data(), optimizer=optimizer)
