import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from experiments.training.ngrams import Ngrams, counted, cross_entropies, grams
from experiments.training.written import Written, losses, write
from lightning_modules.data.characters import ALPHABET, encode


def test_grams_and_counts() -> None:
    tokens = np.array([1, 2, 0, 1, 2])
    assert grams(tokens, 2, 3).tolist() == [5, 6, 1, 5]
    assert grams(tokens, 0, 3).tolist() == [0] * 6
    assert counted(np.array([5, 7, 1]), grams(tokens, 2, 3)).tolist() == [2, 0, 1]


def test_counting_is_what_a_loop_over_a_dictionary_finds() -> None:
    rng = np.random.default_rng(0)
    train, validation, test = (rng.choice(4, p=[0.5, 0.3, 0.15, 0.05], size=n) for n in (90, 40, 9))

    def loss(part: list[int], n: int, ks: list[float]) -> float:
        def p(history: list[int], s: int, n: int) -> float:
            shorter = 0.25 if n == 0 else p(history, s, n - 1)
            c = history[len(history) - n :]
            at = [i for i in range(n, len(train)) if list(train[i - n : i]) == c]
            return (sum(train[i] == s for i in at) + ks[n] * shorter) / (len(at) + ks[n])

        places = range(2, len(part))
        return -sum(math.log(p(part[:i], part[i], n)) for i in places) / len(places)

    ks: list[float] = []
    expected = []
    for n in range(3):
        tried = {
            k: loss(validation.tolist(), n, [*ks, k]) for k in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
        }
        ks.append(min(tried, key=lambda k: tried[k]))
        expected.append(loss(test.tolist(), n, ks))
    found = cross_entropies(train, validation, test, 4, longest=2)
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_text_without_surprise_costs_nothing() -> None:
    tokens = np.arange(4000) % 5
    found = cross_entropies(tokens, tokens[:50], tokens[:50], 5, longest=1)
    assert found[0] == pytest.approx(math.log(5), rel=1e-3)
    assert found[1] < 1e-3


class Next(torch.nn.Module):
    """Is sure that each character is followed by the next of the alphabet."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        assert tokens.shape[1] <= 3
        following = (tokens + 1) % len(ALPHABET)
        return 50.0 * torch.nn.functional.one_hot(following, len(ALPHABET)).double()


def test_a_network_writes_what_it_predicts_within_its_context() -> None:
    assert write(Next(), "ab", 5, context=3, seed=0) == "abcdefg"


def test_a_network_that_has_diverged_writes_nothing() -> None:
    class Lost(Next):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return super().forward(tokens) * float("nan")

    assert write(Lost(), "ab", 5, context=3, seed=0) == "ab"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ngrams(9), r"longest must lie in 0\.\.8, got 9"),
        (lambda: Ngrams(-1), r"longest must lie in 0\.\.8, got -1"),
        (lambda: Written(""), "prompt must not be empty .* got '' and 160"),
        (lambda: Written(length=-1), "length not negative, got 'The ' and -1"),
    ],
)
def test_bad_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_losses_are_of_each_place() -> None:
    x = encode("abcxyz").view(2, 3)
    y = encode("bcdyza").view(2, 3)
    found = losses(Next(), x, y)
    assert found.shape == (2, 3)
    assert found[0].max() < 1e-9 and found[1, :2].max() < 1e-9
    assert float(found[1, 2]) == pytest.approx(50.0)


def test_gradient_lengths_are_kept_and_restored() -> None:
    from experiments.training.gradient_lengths import GradientLengths

    layer: Any = torch.nn.Linear(2, 1)
    layer.weight.grad = torch.tensor([[3.0, 4.0]])
    layer.bias.grad = torch.ones(1)
    watch = GradientLengths(["weight"])
    none: Any = SimpleNamespace()
    watch.on_before_optimizer_step(none, layer, none)
    again = GradientLengths(["weight"])
    again.load_state_dict(watch.state_dict())
    again.on_before_optimizer_step(none, layer, none)
    assert again.curves() == {"length/weight": [5.0, 5.0]}
