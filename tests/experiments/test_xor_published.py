"""The figures of the tutorial, exactly, from a second writing of its lines: one seed at a time."""

from pathlib import Path

import numpy as np
import pytest

from experiments import configs, published
from experiments.endings import PLATEAUS
from experiments.studies import xor
from experiments.study import Backprop, Options
from experiments.training import fit, tutorial


def as_published(seed: int) -> tuple[list[int], float]:
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    y = np.array([[0], [1], [1], [0]])
    stream = np.random.RandomState(seed)
    w1, b1 = stream.randn(2, 4) * 0.1, np.zeros((1, 4))
    w2, b2 = stream.randn(4, 1) * 0.1, np.zeros((1, 1))
    for _ in range(1001):
        z1 = x @ w1 + b1
        a1 = np.maximum(0, z1)
        a2 = 1 / (1 + np.exp(-(a1 @ w2 + b2)))
        loss = -np.mean(y * np.log(a2) + (1 - y) * np.log(1 - a2))
        answers = (a2 > 0.5).astype(int).ravel().tolist()
        dz2 = (a2 - y) / 4
        dz1 = dz2 @ w2.T * (z1 > 0)
        w2, b2 = w2 - 0.5 * a1.T @ dz2, b2 - 0.5 * dz2.sum(axis=0, keepdims=True)
        w1, b1 = w1 - 0.5 * x.T @ dz1, b1 - 0.5 * dz1.sum(axis=0, keepdims=True)
    return answers, float(loss)


def test_seed_42_and_29_of_50() -> None:
    answers, loss = as_published(42)
    assert answers == [1, 1, 1, 0] and round(loss, 3) == 0.478
    found = published.train(range(50))
    assert found.final[42] == pytest.approx(loss, rel=1e-12)
    assert (found.outputs[42] > 0.5).astype(int).tolist() == answers
    solved = ((found.outputs > 0.5) == [False, True, True, False]).all(axis=1)
    assert solved.sum() == 29
    assert [as_published(seed)[0] == [0, 1, 1, 0] for seed in (0, 3, 9)] == solved[
        [0, 3, 9]
    ].tolist()


def test_the_plateaus_are_what_the_labels_allow() -> None:
    # the best constant for some labels is their mean
    def least(labels: list[int]) -> float:
        p = np.mean(labels)
        return -float(np.sum([np.log(p if label else 1 - p) for label in labels])) / 4

    assert PLATEAUS[2] == pytest.approx(least([0, 1]))
    assert PLATEAUS[3] == pytest.approx(least([0, 1, 1])) == pytest.approx(least([0, 0, 1]))
    assert PLATEAUS[4] == pytest.approx(least([0, 0, 1, 1]))


@pytest.mark.parametrize("backprop", ["manual", "autograd"])
def test_the_loop_by_hand_and_by_autograd_follows_the_published_numpy(
    backprop: Backprop, tmp_path: Path
) -> None:
    trial = xor.trial(42, backprop, Options(), watched=False)
    outcome = tutorial.train(trial.place(tmp_path))
    expected = published.train([42])
    np.testing.assert_allclose(outcome.curves["train/loss"], expected.losses[0], rtol=1e-11)
    assert outcome.metrics["test/loss"] == pytest.approx(expected.final[0], rel=1e-11)
    assert outcome.metrics["test/accuracy"] == 0.75
    assert outcome.all_by_hand is (True if backprop == "manual" else None)
    assert outcome.curves["unit2"] == [0.0] * 1000  # dead from the first step


def test_lightning_takes_the_steps_of_the_loop(tmp_path: Path) -> None:
    trial = xor.trial(0, "manual", Options(), watched=False)
    path = trial.place(tmp_path)
    by_lightning, by_loop = fit.train(path), tutorial.train(path)
    assert by_lightning.curves["train/loss"] == by_loop.curves["train/loss"]
    assert by_lightning.metrics == pytest.approx(by_loop.metrics, rel=1e-12)
    assert by_lightning.all_by_hand is True
    for name, weight in by_loop.weights.items():
        np.testing.assert_array_equal(by_lightning.weights[name], weight)


def test_configurations_name_every_argument_of_an_optimizer() -> None:
    assert configs.optimizer("SGD", "manual", lr=1.0)["class_path"] == "manual_bp.optim.SGD"
    assert configs.optimizer("SGD", "autograd", lr=1.0)["class_path"] == "torch.optim.SGD"
