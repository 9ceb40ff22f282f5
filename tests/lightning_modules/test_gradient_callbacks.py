"""The callbacks end to end: trained by Lightning, read back from a TensorBoard server."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.plugins.precision import MixedPrecision
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from torch import Tensor

from lightning_modules.callbacks import GradientHistograms, GradientNorms
from lightning_modules.callbacks.scalars import STEPS

MakeTrainer = Callable[..., pl.Trainer]


class Net(pl.LightningModule):
    """Two layers and a parameter of its own; the loss is far from 1, so that clipping bites."""

    def __init__(self, optimizer: Any = None) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh())
        self.head = torch.nn.Linear(7, 3)
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)
        self.optimizer = optimizer or (lambda p: torch.optim.SGD(p, lr=0.01))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return 20 * (self.scale * self.head(self.body(batch))).square().mean()

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters())


class Batches:
    """The given batches; Lightning would take a plain list for several loaders."""

    def __init__(self, batches: Sequence[Tensor] = ()) -> None:
        generator = torch.Generator().manual_seed(1)
        self.batches = batches or [torch.randn(4, 5, generator=generator) for _ in range(6)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)


TRAINED = ["body.0.weight", "body.0.bias", "head.weight", "head.bias", "scale"]
LABELS = {"body.0/weight", "body.0/bias", "head/weight", "head/bias", "scale"}


def tag_of(name: str) -> str:
    return "/".join(name.rsplit(".", 1))


def total(gradients: dict[str, Tensor]) -> float:
    every = torch.cat([g.flatten().double() for g in gradients.values()])
    return float(torch.linalg.vector_norm(every))


def assert_histogram(buckets: np.ndarray, gradient: Tensor) -> None:
    """The server's buckets hold each value of the gradient, and nothing else."""
    values = gradient.flatten().double().numpy()
    left, right, counts = buckets.T
    assert counts.sum() == len(values)
    np.testing.assert_array_equal(left[1:], right[:-1])
    np.testing.assert_allclose([left[0], right[-1]], [values.min(), values.max()], rtol=1e-6)
    if len(values) > 1:
        edges = np.append(left, right[-1])
        edges[[0, -1]] += np.array([-1, 1]) * 1e-6 * np.abs(values).max()
        np.testing.assert_array_equal(counts, np.histogram(values, edges)[0])


@pytest.fixture
def logger(board: Any, request: pytest.FixtureRequest) -> TensorBoardLogger:
    return TensorBoardLogger(board.logdir, name=None, version=request.node.name)


def test_histograms_and_norms_before_and_after_clipping_by_norm(
    board: Any, trainer: MakeTrainer, recorder: Any, logger: TensorBoardLogger
) -> None:
    clip = 1.5
    callbacks = [GradientHistograms(2), GradientNorms(), recorder]
    trainer(gradient_clip_val=clip, logger=logger, callbacks=callbacks).fit(Net(), Batches())
    run, truth = str(logger.version), recorder.gradients

    for name in TRAINED:
        before = board.histograms(run, f"gradients/{tag_of(name)}", 3)
        after = board.histograms(run, f"gradients_clipped/{tag_of(name)}", 3)
        assert list(before) == list(after) == [0, 2, 4]
        for step in before:
            factor = min(1.0, clip / (total(truth[step]) + 1e-6))
            assert factor < 1
            assert_histogram(before[step], truth[step][name])
            assert_histogram(after[step], factor * truth[step][name])
    assert board.tags("histograms", run) == {
        f"{group}/{label}" for group in ("gradients", "gradients_clipped") for label in LABELS
    }

    layers = {"body.0", "head", "scale"}
    for layer in ["total", *layers]:
        tag = "global_gradient_norm/{}" if layer == "total" else f"gradient_norm/{{}}/{layer}"
        before = board.scalars(run, tag.format("before_clipping"), 6)
        after = board.scalars(run, tag.format("after_clipping"), 6)
        assert list(before) == list(after) == list(range(6))
        for step, gradients in enumerate(truth):
            own = {n: g for n, g in gradients.items() if layer == "total" or n.startswith(layer)}
            factor = min(1.0, clip / (total(gradients) + 1e-6))
            assert before[step] == pytest.approx(total(own), rel=1e-6)
            assert after[step] == pytest.approx(factor * before[step], rel=1e-6)
    norms = {tag for tag in board.tags("scalars", run) if "gradient_norm/" in tag}
    assert len(norms) == 2 * (1 + len(layers))


def test_every_step_is_logged_with_its_exact_norms_in_one_event(
    trainer: MakeTrainer, recorder: Any, tmp_path: Path
) -> None:
    steps = 2 * STEPS + 3  # what is kept back is written twice in between, and once at the end
    logger = TensorBoardLogger(tmp_path)
    generator = torch.Generator().manual_seed(2)
    batches = Batches([torch.randn(4, 5, generator=generator) for _ in range(steps)])
    trainer(logger=logger, callbacks=[GradientNorms(), recorder]).fit(Net(), batches)
    (file,) = Path(logger.log_dir).glob("events*")
    events = [
        (event.step, {value.tag: value.simple_value for value in event.summary.value})
        for event in LegacyEventFileLoader(str(file)).Load()
        if any("gradient_norm/" in value.tag for value in event.summary.value)
    ]
    assert [step for step, _ in events] == list(range(steps))
    for (_, logged), gradients in zip(events, recorder.gradients, strict=True):
        expected = {"global_gradient_norm/before_clipping": total(gradients)}
        for layer in ("body.0", "head", "scale"):
            own = {name: g for name, g in gradients.items() if name.startswith(layer)}
            expected[f"gradient_norm/before_clipping/{layer}"] = total(own)
        assert logged == pytest.approx(expected, rel=1e-6)


class Thawing(Net):
    """Its head joins the optimizer at the third step; its body freezes at the fifth."""

    def __init__(self) -> None:
        super().__init__(lambda p: torch.optim.SGD(self.body.parameters(), lr=0.01))

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        if batch_idx == 2:
            self.optimizers().add_param_group({"params": list(self.head.parameters())})  # type: ignore[union-attr]
        if batch_idx == 4:
            self.body.requires_grad_(False)


def test_parameters_that_join_or_freeze_during_the_fit(
    board: Any, trainer: MakeTrainer, logger: TensorBoardLogger
) -> None:
    callbacks = [GradientHistograms(1), GradientNorms()]
    trainer(logger=logger, callbacks=callbacks).fit(Thawing(), Batches())
    run = str(logger.version)
    for layer, steps in (("head", [2, 3, 4, 5]), ("body.0", [0, 1, 2, 3])):
        assert list(board.scalars(run, f"gradient_norm/before_clipping/{layer}", 4)) == steps
        assert list(board.histograms(run, f"gradients/{layer}/weight", 4)) == steps
    assert "gradient_norm/before_clipping/scale" not in board.tags("scalars", run)


def test_clipping_by_value(
    board: Any, trainer: MakeTrainer, recorder: Any, logger: TensorBoardLogger
) -> None:
    trainer(
        gradient_clip_val=0.1,
        gradient_clip_algorithm="value",
        logger=logger,
        callbacks=[GradientHistograms(1), recorder],
    ).fit(Net(), Batches())
    tag = "gradients_clipped/head/weight"
    for step, buckets in board.histograms(str(logger.version), tag, 6).items():
        gradient = recorder.gradients[step]["head.weight"]
        assert gradient.abs().max() > 0.1
        assert np.abs(buckets[:, :2]).max() == pytest.approx(0.1)
        assert buckets[:, 2].sum() == gradient.numel()


def test_without_clipping_there_is_no_second_set(
    board: Any, trainer: MakeTrainer, logger: TensorBoardLogger
) -> None:
    trainer(logger=logger, callbacks=[GradientHistograms(1), GradientNorms()]).fit(Net(), Batches())
    run = str(logger.version)
    board.histograms(run, "gradients/scale", 6)
    board.scalars(run, "global_gradient_norm/before_clipping", 6)
    tags = board.tags("histograms", run) | board.tags("scalars", run)
    assert not [tag for tag in tags if "clipped" in tag or "after" in tag]


class Clipping(Net):
    """Halves its gradients in a hook of its own."""

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        torch._foreach_mul_([p.grad for p in self.parameters() if p.grad is not None], 0.5)


def test_the_modules_own_clipping_is_seen(
    board: Any, trainer: MakeTrainer, logger: TensorBoardLogger
) -> None:
    trainer(logger=logger, callbacks=[GradientNorms()]).fit(Clipping(), Batches())
    run = str(logger.version)
    before = board.scalars(run, "global_gradient_norm/before_clipping", 6)
    after = board.scalars(run, "global_gradient_norm/after_clipping", 6)
    assert after == pytest.approx({step: norm / 2 for step, norm in before.items()}, rel=1e-6)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_accumulated_gradients_are_seen_once_and_whole(
    board: Any, trainer: MakeTrainer, logger: TensorBoardLogger, clip: float | None
) -> None:
    net = Net(lambda p: torch.optim.SGD(p, lr=0.0))
    trainer(
        logger=logger,
        accumulate_grad_batches=3,
        gradient_clip_val=clip,
        callbacks=[GradientHistograms(1), GradientNorms()],
    ).fit(net, Batches())
    run = str(logger.version)
    norms = board.scalars(run, "global_gradient_norm/before_clipping", 2)
    if clip:
        after = board.scalars(run, "global_gradient_norm/after_clipping", 2)
        assert after == pytest.approx({0: clip, 1: clip}, rel=1e-5)
    histograms = board.histograms(run, "gradients/head/weight", 2)
    assert list(norms) == list(histograms) == [0, 1]
    batches = list(Batches())
    for step in norms:
        losses = [net.training_step(batch, 0) for batch in batches[3 * step : 3 * step + 3]]
        parameters = dict(net.named_parameters())
        grads = torch.autograd.grad(
            torch.stack(losses).mean(), [parameters[name] for name in TRAINED]
        )
        truth = dict(zip(TRAINED, grads, strict=True))
        assert norms[step] == pytest.approx(total(truth), rel=1e-5)
        assert_histogram(histograms[step], truth["head.weight"])


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_unscaled_under_mixed_precision(
    board: Any, trainer: MakeTrainer, logger: TensorBoardLogger, fused: bool
) -> None:
    # A fused optimizer unscales in its own step, after the hook; Lightning refuses to clip it.
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    net = Net(lambda p: torch.optim.SGD(p, lr=0.0, fused=fused))
    batches = list(Batches())[:3]
    trainer(
        logger=logger,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)],
        gradient_clip_val=None if fused else 1.0,
        callbacks=[GradientHistograms(1), GradientNorms()],
    ).fit(net, Batches(batches))
    run = str(logger.version)
    norms = board.scalars(run, "global_gradient_norm/before_clipping", 3)
    buckets = board.histograms(run, "gradients/scale", 3)
    for step, batch in enumerate(batches):
        net.zero_grad()
        net.training_step(batch, 0).backward()
        truth = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
        assert norms[step] == pytest.approx(total(truth), rel=0.02)  # float16 forward
        assert buckets[step][0, 0] == pytest.approx(float(truth["scale"]), rel=0.02)


class Poisoned(Net):
    """Gradients with NaN, infinity and values near float32's end; one empty, one all NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.empty = torch.nn.Parameter(torch.zeros(0, 3))

    def on_after_backward(self) -> None:
        self.empty.grad = torch.zeros(0, 3)
        for gradient, values in (
            (self.body[0].weight.grad, [math.nan, math.inf, -math.inf, 3e38, -1e-42]),
            (self.body[0].bias.grad, [0.0] * 7),
            (self.head.weight.grad, [math.nan] * 21),
            (self.head.bias.grad, [1e30, 1e30, 1e30]),
        ):
            assert isinstance(gradient, Tensor)
            gradient.view(-1)[: len(values)] = torch.tensor(values)


def test_nan_and_infinity_survive(
    board: Any, trainer: MakeTrainer, recorder: Any, logger: TensorBoardLogger
) -> None:
    callbacks = [GradientHistograms(1), GradientNorms(), recorder]
    trainer(logger=logger, callbacks=callbacks).fit(Poisoned(), Batches(list(Batches())[:1]))
    run = str(logger.version)
    truth = recorder.gradients[0]["body.0.weight"]
    buckets = board.histograms(run, "gradients/body.0/weight", 1)[0]
    assert np.isfinite(buckets).all()
    assert buckets[:, 2].sum() == truth.numel() - 3
    assert buckets[-1, 1] == pytest.approx(3e38)
    assert board.scalars(run, "gradients_nonfinite/body.0/weight", 1) == {0: 3}
    # Nothing finite: no histogram, but a count. Nothing at all: nothing.
    assert board.scalars(run, "gradients_nonfinite/head/weight", 1) == {0: 21}
    assert board.histograms(run, "gradients/body.0/bias", 1)[0][:, 2].sum() == 7
    assert board.tags("histograms", run) == {
        f"gradients/{label}" for label in LABELS - {"head/weight"}
    }
    # A sum of squares beyond float32 is no infinity: neither a count nor an infinite norm.
    bad = {t for t in board.tags("scalars", run) if t.startswith("gradients_nonfinite/")}
    assert bad == {"gradients_nonfinite/body.0/weight", "gradients_nonfinite/head/weight"}
    assert not math.isfinite(board.scalars(run, "gradient_norm/before_clipping/body.0", 1)[0])
    assert not math.isfinite(board.scalars(run, "global_gradient_norm/before_clipping", 1)[0])


class Adversarial(pl.LightningModule):
    """Manual optimization: two optimizers, one clips, gradients are dropped after each step."""

    automatic_optimization = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = torch.nn.Linear(3, 3)
        self.critic = torch.nn.Linear(3, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        for optimizer, module in zip(self.optimizers(), (self.critic, self.generator), strict=True):
            self.manual_backward(self.critic(self.generator(batch)).square().mean())
            if module is self.critic:
                self.clip_gradients(optimizer, gradient_clip_val=0.01)
            optimizer.step()
            self.zero_grad()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(m.parameters(), lr=0.01) for m in (self.critic, self.generator)]


def test_manual_optimization_shows_what_each_optimizer_receives(
    board: Any, trainer: MakeTrainer, logger: TensorBoardLogger
) -> None:
    batches = Batches([torch.ones(2, 3) * i for i in range(1, 5)])
    callbacks = [GradientHistograms(2), GradientNorms(2)]
    trainer(logger=logger, callbacks=callbacks).fit(Adversarial(), batches)
    run = str(logger.version)
    # every second step of both optimizers, though Lightning counts their steps together
    for layer in ("critic", "generator"):
        assert list(board.scalars(run, f"gradient_norm/after_clipping/{layer}", 2)) == [0, 2]
        assert list(board.histograms(run, f"gradients_clipped/{layer}/bias", 2)) == [0, 2]
    critic = board.scalars(run, "gradient_norm/after_clipping/critic", 2)
    assert critic == pytest.approx({0: 0.01, 2: 0.01}, rel=1e-3)


class Known(pl.LightningModule):
    """A loss whose gradient does not depend on the weights: theirs are the constants."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((3,), 100.0))
        self.table = torch.nn.Embedding(10, 2, sparse=True)
        self.wave = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        linear = (self.weight * torch.tensor([1.0, 2.0, 4.0])).sum()
        rows = 3 * self.table(torch.tensor([4, 4, 7])).sum()
        return linear + rows + (self.wave * (5 + 7j)).real.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_gradients_are_logged_never_weights_also_sparse_and_complex_ones(
    board: Any, trainer: MakeTrainer, logger: TensorBoardLogger
) -> None:
    batches = Batches([torch.ones(1)] * 2)
    trainer(logger=logger, callbacks=[GradientHistograms(1), GradientNorms()]).fit(Known(), batches)
    run = str(logger.version)
    for step in range(2):
        buckets = board.histograms(run, "gradients/weight", 2)[step]
        assert (buckets[0, 0], buckets[-1, 1], buckets[:, 2].sum()) == (1, 4, 3)
        # row 4 is looked up twice, row 7 once: 6, 6, 3, 3
        buckets = board.histograms(run, "gradients/table/weight", 2)[step]
        assert (buckets[0, 0], buckets[-1, 1], buckets[:, 2].sum()) == (3, 6, 4)
        for layer, norm in (("weight", 21**0.5), ("table", 90**0.5), ("wave", 148**0.5)):
            scalars = board.scalars(run, f"gradient_norm/before_clipping/{layer}", 2)
            assert scalars[step] == pytest.approx(norm, rel=1e-6)


def test_an_optimizer_that_calls_back_is_logged_once_a_step(
    board: Any, trainer: MakeTrainer, logger: TensorBoardLogger
) -> None:
    net = Net(lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=4))
    trainer(logger=logger, callbacks=[GradientHistograms(1), GradientNorms()]).fit(net, Batches())
    run = str(logger.version)
    assert list(board.scalars(run, "global_gradient_norm/before_clipping", 6)) == list(range(6))
    assert list(board.histograms(run, "gradients/scale", 6)) == list(range(6))


def test_several_loggers(board: Any, trainer: MakeTrainer, recorder: Any) -> None:
    first, second = (
        TensorBoardLogger(board.logdir, name=None, version=f"several_{i}") for i in "ab"
    )
    csv = CSVLogger(board.logdir, name=None, version="several_csv")
    trainer(
        logger=[first, csv, second], callbacks=[GradientHistograms(1), GradientNorms(), recorder]
    ).fit(Net(), Batches())
    for run in ("several_a", "several_b"):
        assert len(board.histograms(run, "gradients/head/weight", 6)) == 6
        norms = board.scalars(run, "global_gradient_norm/before_clipping", 6)
        assert norms[5] == pytest.approx(total(recorder.gradients[5]), rel=1e-6)
    rows = (board.logdir / "several_csv" / "metrics.csv").read_text().splitlines()
    assert "global_gradient_norm/before_clipping" in rows[0]
    assert len(rows) == 7


def test_without_a_logger_the_user_is_told_once(trainer: MakeTrainer, board: Any) -> None:
    with pytest.warns(UserWarning, match="GradientHistograms logs nothing") as told:
        trainer(callbacks=[GradientHistograms(1)]).fit(Net(), Batches())
    assert len([w for w in told if "logs nothing" in str(w.message)]) == 1
    with pytest.warns(UserWarning, match="GradientHistograms logs nothing"):
        csv = CSVLogger(board.logdir, name=None, version="only_csv")
        trainer(logger=csv, callbacks=[GradientHistograms(1)]).fit(Net(), Batches())
    # fast_dev_run takes the logger away by itself: no warning, which here would be an error
    trainer(fast_dev_run=True, logger=True, callbacks=[GradientHistograms(1)]).fit(Net(), Batches())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientHistograms(0), "every_n_steps must be positive, got 0"),
        (lambda: GradientHistograms(max_values=0), "max_values must be positive, got 0"),
        (lambda: GradientNorms(-1), "every_n_steps must be positive, got -1"),
    ],
)
def test_bad_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
