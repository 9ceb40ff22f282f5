"""The largest eigenvalue, products with the Hessian, gradient noise and schedules: exact cases."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.training import whole
from experiments.training.full_batch import FullBatch
from experiments.training.gradient_noise import GradientNoise
from experiments.training.schedule import Schedule, Shape, factor
from experiments.training.sharpness import Sharpness, largest_eigenvalue
from experiments.training.squared_error import SquaredError
from lightning_modules import Classifier, Learner
from lightning_modules.data import Digits, InMemory
from lightning_modules.networks import MLP

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on fits of this size


def symmetric(seed: int, size: int = 12) -> Tensor:
    a = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return a + a.T


@pytest.mark.parametrize("seed", range(4))
def test_lanczos_finds_the_largest_eigenvalue_and_not_the_largest_in_size(seed: int) -> None:
    matrix = symmetric(seed) - 20 * torch.eye(12)  # all its eigenvalues are negative
    start = torch.ones(12, dtype=torch.float64)
    value, vector = largest_eigenvalue(lambda v: matrix @ v, start, tolerance=1e-12)
    assert value == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-12)
    torch.testing.assert_close(matrix @ vector, value * vector, rtol=0, atol=1e-9)


def test_a_good_start_saves_products() -> None:
    matrix, counts = symmetric(0, 60), []

    def count(start: Tensor) -> Tensor:
        counts.append(0)

        def product(v: Tensor) -> Tensor:
            counts[-1] += 1
            return matrix @ v

        return largest_eigenvalue(product, start)[1]

    vector = count(torch.ones(60, dtype=torch.float64))
    count(vector)
    assert counts[1] <= 2 < 6 < counts[0]


def test_what_is_not_finite_has_no_eigenvalue() -> None:
    value, _ = largest_eigenvalue(lambda v: v * torch.inf, torch.ones(3))
    assert value != value


def learner(cls: Callable[..., Learner], backprop: str, hidden: tuple[int, ...]) -> Learner:
    torch.manual_seed(1)
    network = partial(MLP, hidden=hidden, activation="Tanh")
    return cls(network, partial(torch.optim.SGD, lr=0.01), backprop=backprop).double()


@pytest.mark.parametrize("cls", [Classifier, SquaredError])
def test_products_by_hand_are_those_of_the_whole_hessian_by_autograd(
    cls: Callable[..., Learner],
) -> None:
    ours, theirs = (learner(cls, kind, (5,)) for kind in ("manual", "autograd"))
    data = FullBatch(20).parts.train
    batch = data.x.double(), data.y
    rows = whole.hessian_products(theirs, batch)
    count = sum(p.numel() for p in theirs.parameters())
    hessian = torch.stack([rows(e) for e in torch.eye(count, dtype=torch.float64)[::7]])
    v = torch.randn(count, dtype=torch.float64)
    torch.testing.assert_close(
        whole.hessian_products(ours, batch)(v)[::7], hessian @ v, rtol=1e-12, atol=1e-14
    )


def fit(module: Learner, data: InMemory, *callbacks: pl.Callback, epochs: int = 1) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=data)
    return trainer


def test_the_sharpness_of_a_linear_model_is_that_of_its_inputs() -> None:
    data, watch = FullBatch(200, steps_per_epoch=3), Sharpness(2, tolerance=1e-9)
    fit(learner(SquaredError, "manual", ()), data, watch)
    x = torch.cat([data.parts.train.x, torch.ones(200, 1)], 1).double()
    exact = float(torch.linalg.eigvalsh(x.T @ x / 200)[-1])
    curves = watch.curves()
    assert curves["sharpness/step"] == [0, 2, 3]
    assert curves["sharpness/value"] == pytest.approx([exact] * 3, rel=1e-9)
    assert curves["sharpness/error"][0] < 1e-12


@pytest.mark.parametrize("backprop", ["manual", "autograd"])
def test_frozen_parameters_have_no_part_in_it(backprop: str) -> None:
    module = learner(Classifier, backprop, (5,))
    x, y = FullBatch(20).parts.train
    batch = x.double(), y
    full, rows = whole.gradient(module, batch), whole.hessian_products(module, batch)
    frozen, *_ = module.parameters()  # the first of the gradient, too
    v = torch.randn(len(full), dtype=torch.float64)
    v[: frozen.numel()] = 0
    expected = full[frozen.numel() :], rows(v)[frozen.numel() :]
    frozen.requires_grad_(False)
    found = (
        whole.gradient(module, batch),
        whole.hessian_products(module, batch)(v[len(v) - len(expected[0]) :]),
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


class Linear(Learner):
    """Its loss is linear in the weights."""

    def loss_and_output(self, batch: Any) -> tuple[Tensor, Tensor]:
        output = self(batch[0])
        return output.mean(), output


@pytest.mark.parametrize("backprop", ["manual", "autograd"])
def test_a_linear_loss_is_flat(backprop: str) -> None:
    module = learner(Linear, backprop, ())
    product = whole.hessian_products(module, whole.placed(FullBatch(20).parts.train, module))
    assert largest_eigenvalue(product, torch.ones(650).double())[0] == 0


def test_the_other_kind_has_the_same_weights_to_the_last_bit() -> None:
    module = learner(Classifier, "manual", (4,))
    weights = dict(module.counterpart().named_parameters())
    torch.testing.assert_close(weights, dict(module.named_parameters()), rtol=0, atol=0)


def test_a_batch_larger_than_all_samples_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sizes must be at most 30, all samples, got \(60,\)"):
        fit(learner(Classifier, "manual", ()), FullBatch(30), GradientNoise([60]))


def test_sharpness_goes_on_from_its_state() -> None:
    watch = Sharpness(1)
    fit(learner(Classifier, "manual", (4,)), FullBatch(50), watch)
    resumed = Sharpness(1)
    resumed.load_state_dict(watch.state_dict())
    assert resumed.state_dict().keys() == watch.state_dict().keys()
    assert resumed.curves()["sharpness/value"] == watch.curves()["sharpness/value"]


def test_the_noise_of_all_samples_is_none_and_of_one_is_the_covariance() -> None:
    module, data = learner(Classifier, "manual", (4,)), FullBatch(60)
    watch = GradientNoise([1, 10, 60], draws=60)
    x, y = data.parts.train
    single = torch.stack(
        [whole.gradient(module, (x[i : i + 1].double(), y[i : i + 1])) for i in range(60)]
    )
    trace = float((single - single.mean(0)).square().sum(1).mean())
    fit(module, data, watch)
    noise = {name: values[0] for name, values in watch.curves().items()}
    assert noise["noise/60"] < 1e-20
    assert noise["noise/1"] == pytest.approx(trace, rel=1e-9)
    assert noise["noise/10"] == pytest.approx(trace / 10 * 50 / 59, rel=0.25)
    assert noise["noise/gradient"] == pytest.approx(float(single.mean(0).square().sum()), rel=1e-9)


class Rates(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_a_schedule_sets_the_rate_of_every_step() -> None:
    rates, module = Rates(), learner(Classifier, "manual", ())
    fit(module, FullBatch(50, steps_per_epoch=8), Schedule("cosine", warmup=2), rates)
    assert rates.seen == [0.01 * factor("cosine", step, 8, 2) for step in range(8)]
    assert rates.seen[0] == 0.005 and rates.seen[4] == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("shape", "first", "middle", "last"),
    [
        ("constant", 1, 1, 1),
        ("step", 1, 0.1, 0.01),
        ("cosine", 1, 0.5, 0.5 * (1 + torch.pi**2 / 2e6 - 1)),
        ("1/sqrt", 1, 0.25, 31**-0.5),
    ],
)
def test_schedules_begin_at_one_and_fall(
    shape: Shape, first: float, middle: float, last: float
) -> None:
    found = [factor(shape, step, 1000) for step in (0, 500, 999)]
    assert found == pytest.approx([first, middle, last], rel=1e-3, abs=1e-5)


def test_squared_error_is_half_the_squared_distance() -> None:
    module = learner(SquaredError, "manual", (4,))
    x, y = torch.randn(6, 64, dtype=torch.float64), torch.tensor([3, 0, 9, 1, 1, 4])
    loss, outputs = module.loss_and_output((x, y))
    apart = outputs - torch.eye(10, dtype=torch.float64)[y]
    assert loss.item() == pytest.approx(apart.square().sum(1).mean().item() / 2, rel=1e-14)
    assert set(module.score(outputs, (x, y))) == {"accuracy"}


def test_a_full_batch_is_all_samples_in_order_again_and_again() -> None:
    data = FullBatch(50, steps_per_epoch=2, centred=True)
    one, other = data.train_dataloader()
    assert len(one[0]) == 50 and torch.equal(one[0], other[0])
    torch.testing.assert_close(one[0].mean(0), torch.zeros(64), rtol=0, atol=1e-6)
    plain = Digits(validation=1350).parts
    torch.testing.assert_close(
        data.parts.test.x + plain.train.x.mean(0), plain.test.x, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FullBatch(1400), r"samples must lie in 1\.\.1399, got 1400"),
        (lambda: FullBatch(10, 0), "steps_per_epoch must be positive, got 0"),
        (lambda: Sharpness(-1), "every_n_steps must be 0 or positive, got -1"),
        (lambda: Sharpness(1, 0.0), r"tolerance must be positive, got 0\.0"),
        (lambda: GradientNoise([4, 0]), r"sizes and draws must be positive, got \[4, 0\] and 50"),
        (lambda: Schedule("cosinus"), "shape must be one of .*, got 'cosinus'"),  # type: ignore[arg-type]
        (lambda: Schedule(warmup=-1), "warmup must be 0 or positive, got -1"),
    ],
)
def test_bad_input_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
