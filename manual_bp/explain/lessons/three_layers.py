"""Backprop through three layers of neurons, every delta by its name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.lessons.numerals import bracketed, listed, three


def build() -> Setup:
    """Two inputs, two hidden sigmoid neurons, one sigmoid output."""
    f64 = torch.float64
    model = nn.Sequential(
        OrderedDict(
            hidden=nn.Linear(2, 2, dtype=f64),
            hidden_sigmoid=nn.Sigmoid(),
            output=nn.Linear(2, 1, dtype=f64),
            output_sigmoid=nn.Sigmoid(),
        )
    )
    with torch.no_grad():
        for name, values in (
            ("hidden.weight", [[0.5, -0.4], [0.3, 0.8]]),
            ("hidden.bias", [0.1, -0.2]),
            ("output.weight", [[0.7, -0.6]]),
            ("output.bias", [0.05]),
        ):
            model.get_parameter(name).copy_(torch.tensor(values, dtype=f64))
    x, t = torch.tensor([[1.0, 0.5]], dtype=f64), torch.tensor([[1.0]], dtype=f64)
    return Setup(model, (x,), t, _half_square, lambda w: torch.optim.SGD(w, lr=0.5))


def _half_square(y: Tensor, t: Tensor) -> Tensor:
    return ((y - t) ** 2).sum() / 2


def tell(step: Explanation) -> Iterator[str | Table]:
    """The deltas, from the output back."""
    (hidden,), (output,) = step.at("hidden"), step.at("output")
    (squash,), (top,) = step.at("hidden_sigmoid"), step.at("output_sigmoid")
    y, t = top.outputs[0].value, 1.0
    h = squash.outputs[0].value[0]
    error = _gradient(top)
    delta_output, delta_hidden = _gradient(output)[0], _gradient(hidden)[0]
    x = hidden.inputs[0].value[0]
    slope_output, slope_hidden = y * (1 - y), h * (1 - h)
    (w,) = step.update("output.weight").before.tolist()
    sent = [float(delta_output) * v for v in w]
    yield (
        "From the neuron it feeds. The error of a hidden neuron is the error of the output, sent "
        "back over the weight that joins the two, times the slope of the neuron's own sigmoid. "
        "That is the chain rule, and its products have names:"
    )
    rows = [
        ("dL/dy", "y - t", f"{three(y)} - {three(t)}", three(error)),
        (
            "delta_output",
            "dL/dy × y (1 - y)",
            f"{three(error)} × {three(slope_output)}",
            three(delta_output),
        ),
    ]
    for j in range(2):
        rows.append(
            (
                f"delta_hidden {j + 1}",
                f"W_output {j + 1} × delta_output × h (1 - h)",
                f"{three(w[j])} × {bracketed(delta_output)} × {three(slope_hidden[j])}",
                three(delta_hidden[j]),
            )
        )
    yield Table(("name", "formula", "with numbers", "is"), rows)
    yield (
        "A weight stands between an input that it was given and a delta that came back. Its "
        "gradient is the product of the two. For a whole layer that is an outer product: every "
        "delta times every input."
    )
    yield Table(
        ("gradient of", "is", "numbers"),
        [
            ("W_output", "delta_output × h", _outer(delta_output, h)),
            ("b_output", "delta_output", listed(delta_output)),
            ("W_hidden", "delta_hidden × x", _outer(delta_hidden, x)),
            ("b_hidden", "delta_hidden", listed(delta_hidden)),
        ],
        f"h = {listed(h)}, x = {listed(x)}",
    )
    yield (
        f"The output is too low ({three(y)} instead of {three(t)}), so dL/dy is negative. Neuron 1 "
        f"is joined by a positive weight and is sent {three(sent[0])}: it is asked for more. "
        f"Neuron 2 is joined by a negative weight and is sent {three(sent[1])}: it is asked "
        "for less. The sign of the weight decides who is to do what."
    )


def _gradient(operation: object) -> Tensor:
    found = operation.outputs[0].gradient  # type: ignore[attr-defined]
    assert isinstance(found, Tensor)
    return found


def _outer(delta: Tensor, inputs: Tensor) -> str:
    return "[" + ", ".join(listed(row) for row in torch.outer(delta, inputs)) + "]"


LESSON = Lesson(
    name="three-layers",
    title="Three layers, and every delta by its name",
    question=(
        "The output neuron knows its error: it said too little. Nobody tells a hidden neuron what "
        "it should have said. How does it learn which way to change, and how much?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
