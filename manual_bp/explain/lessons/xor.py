"""XOR with dead units: the network of a widely read tutorial, where its training ends.

The study ``xor`` of the experiments counts over 50 seeds what is told here of one.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.lessons.numerals import three
from manual_bp.explain.views.numbers import number

SEED, CONTRAST = 42, 0
"""The tutorial's seed, and one that solves it."""
HIDDEN, SCALE, RATE, STEPS = 4, 0.1, 0.5, 1000
POINTS = ((0, 0), (0, 1), (1, 0), (1, 1))
LABELS = (0, 1, 1, 0)


def build(seed: int = SEED, steps: int = STEPS) -> Setup:
    """The network 2-4-1 after ``steps`` steps of gradient descent on all four inputs."""
    model = _network(seed)
    x = torch.tensor(POINTS, dtype=torch.float64)
    t = torch.tensor(LABELS, dtype=torch.float64)[:, None]
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(model(x), t).backward()
            optimizer.step()
    optimizer.zero_grad()
    return Setup(model, (x,), t, binary_cross_entropy_with_logits, optimizer)


def _network(seed: int) -> nn.Sequential:
    draws = _normal(seed, 3 * HIDDEN)
    values = torch.tensor(draws, dtype=torch.float64) * SCALE
    hidden, output = (nn.Linear(*size, dtype=torch.float64) for size in ((2, HIDDEN), (HIDDEN, 1)))
    with torch.no_grad():
        hidden.weight.copy_(values[: 2 * HIDDEN].view(2, HIDDEN).T)
        output.weight.copy_(values[2 * HIDDEN :][None])
        for layer in (hidden, output):
            layer.bias.zero_()
    return nn.Sequential(OrderedDict(hidden=hidden, relu=nn.ReLU(), output=output))


def _normal(seed: int, count: int) -> list[float]:
    """What ``np.random.seed(seed); np.random.randn(count)`` draws, without NumPy.

    The stream is the Mersenne twister's, seeded as its authors first did, and the normal numbers
    come in pairs by Marsaglia's polar method, the second of a pair first.
    """
    state = [seed]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) & 0xFFFFFFFF)
    twister = random.Random()
    twister.setstate((3, (*state, 624), None))
    numbers: list[float] = []
    while len(numbers) < count:
        a, b = 2 * twister.random() - 1, 2 * twister.random() - 1
        r = a * a + b * b
        if 0 < r < 1:
            f = math.sqrt(-2 * math.log(r) / r)
            numbers += [f * b, f * a]
    return numbers[:count]


def tell(step: Explanation) -> Iterator[str | Table]:
    """Which units are on for which inputs, who gets a gradient, and why the rest is stuck."""
    on = step.at("relu")[0].outputs[0].value > 0
    p = torch.sigmoid(step.at("output")[0].outputs[0].value[:, 0])
    gradient = {u.name: u.gradient for u in step.updates}
    first, second = gradient["hidden.weight"], gradient["output.weight"]
    assert first is not None and second is not None
    dead = [i for i in range(HIDDEN) if not on[:, i].any()]
    answers = [round(v) for v in p.tolist()]
    yield (
        f"It says {_row(answers)} where XOR is {_row(LABELS)}: {_count(answers)} right. "
        f"{_units(dead)} {'is' if len(dead) == 1 else 'are'} dead: off for all four inputs. A "
        "ReLU that is off has the slope 0, so no gradient passes, and its weights stay where they "
        "are for good. The others still get a gradient. But they are on for (1,1) alone, whose "
        "answer is right already: what they learn changes no other answer."
    )
    start = _network(SEED)
    before = start[:1](torch.tensor(POINTS, dtype=torch.float64)) > 0
    rows = [
        (
            f"unit {i + 1}",
            _inputs(before[:, i]),
            _inputs(on[:, i]),
            three(first[i].norm()),
            three(second[0, i].abs()),
        )
        for i in range(HIDDEN)
    ]
    yield Table(
        ("", "on at the start for", f"on after {STEPS} steps for", "gradient in", "gradient out"),
        rows,
        "Gradient in: the norm of that of its two input weights. Out: of its output weight.",
    )
    dark = [k for k in range(4) if not on[k].any()]
    share = sum(LABELS[k] for k in dark) / len(dark)
    least = -(share * math.log(share) + (1 - share) * math.log(1 - share)) * len(dark) / 4
    yield (
        f"{_points(dark)} turn no unit on. For the network they are one and the same point, and "
        f"the output bias alone answers for them. Their labels are "
        f"{', '.join(str(LABELS[k]) for k in dark)}; the answer that costs least is their mean, "
        f"{number(share, 4)}, and the network says {number(float(p[dark[0]]), 4)}. The least loss "
        f"with that answer is {number(least, 4)}, and the network is at "
        f"{number(float(step.loss), 4)}: nothing is left to gain by small steps."
    )
    other = build(CONTRAST)
    model, (x,) = other.model, other.inputs
    with torch.no_grad():
        logits = model(x)[:, 0]
    loss = binary_cross_entropy_with_logits(logits, torch.tensor(LABELS, dtype=torch.float64))
    yield (
        f"Nothing is wrong with backprop here, nor with the network: drawn with seed {CONTRAST} it "
        f"says {_row([round(v) for v in torch.sigmoid(logits).tolist()])} after the same {STEPS} "
        f"steps, at a loss of {three(loss)}. What helps seed {SEED} is another draw, "
        "more hidden units, or an activation whose slope is not 0 below zero."
    )


def _count(answers: list[int]) -> str:
    right = sum(a == t for a, t in zip(answers, LABELS, strict=True))
    return f"{right} of {len(LABELS)}"


def _row(values: tuple[int, ...] | list[int]) -> str:
    return f"[{' '.join(map(str, values))}]"


def _units(which: list[int]) -> str:
    return ("Unit " if len(which) == 1 else "Units ") + _and([str(i + 1) for i in which])


def _points(which: list[int]) -> str:
    return _and([f"({POINTS[k][0]},{POINTS[k][1]})" for k in which])


def _inputs(on: Tensor) -> str:
    return " ".join(f"({x},{y})" for (x, y), is_on in zip(POINTS, on, strict=True) if is_on) or (
        "nothing"
    )


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


LESSON = Lesson(
    name="xor",
    title="XOR with dead units",
    question=(
        "A tutorial trains a network 2-4-1 on XOR for 1000 steps and prints the right answers, "
        "[0 1 1 0]. Its own code ends elsewhere, and its loss no longer falls. Which of the four "
        "hidden units still learn? What would you have to change?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
