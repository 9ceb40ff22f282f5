"""Every rule against torch.optim: trajectories, state, schedules, checkpoints, errors."""

import copy
import inspect
import io
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manual_bp import optim

RULES = ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW")
CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.02, "momentum": 0.9}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 1e-3, "momentum": 0.8, "nesterov": True, "weight_decay": 1, "maximize": True}),
    ("Adagrad", {"lr": 0.05}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.02}),
    ("Adagrad", {"lr": 0.01, "initial_accumulator_value": 0.1, "eps": 1e-3, "maximize": True}),
    ("RMSprop", {"lr": 1e-3}),
    ("RMSprop", {"lr": 1e-3, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.02}),
    ("RMSprop", {"lr": 1e-3, "momentum": 0.9}),
    ("RMSprop", {"lr": 1e-3, "centered": True}),
    ("RMSprop", {"lr": 1e-4, "centered": True, "momentum": 0.5, "maximize": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.02}),
    ("Adam", {"lr": 0.01, "betas": (0.0, 0.9), "amsgrad": True}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True}),
    ("AdamW", {"lr": 1e-3, "betas": (0.7, 0.9), "maximize": True}),
]
TOLERANCE = 1e-12
FORMS = [pytest.param(None, id="in_place"), pytest.param(False, id="formula")]


def case_id(value: Any) -> str | None:
    if isinstance(value, dict):
        return ",".join(f"{k}={v}" for k, v in value.items()) or "defaults"
    return None


each_case = pytest.mark.parametrize(("name", "settings"), CASES, ids=case_id)
each_form = pytest.mark.parametrize("foreach", FORMS)
Make = Callable[[Any], torch.optim.Optimizer]


def maker(where: Any, name: str, settings: dict[str, Any], **more: Any) -> Make:
    return lambda params: getattr(where, name)(params, **{**settings, **more})


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def batches(steps: int, seed: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(6, 5, generator=draw, dtype=torch.float64)
        yield x, torch.randn(6, 3, generator=draw, dtype=torch.float64)


def train(model: nn.Module, opt: torch.optim.Optimizer, steps: int, seed: int = 1) -> None:
    for x, y in batches(steps, seed):
        opt.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        opt.step()


def difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference, relative to the largest entry of b."""
    if a.numel() == 0:
        return 0.0 if a.shape == b.shape else math.inf
    a, b = torch.view_as_real(a + 0j), torch.view_as_real(b + 0j)
    error = (a - b).abs().max() / b.abs().max().clamp_min(1e-30)
    return math.inf if error.isnan() else error.item()


def disagreement(
    ours: nn.Module, mine: torch.optim.Optimizer, theirs: nn.Module, them: torch.optim.Optimizer
) -> float:
    """Return the largest difference in parameters and in everything the optimizers remember."""
    errors = [difference(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)]
    states, references = mine.state_dict()["state"], them.state_dict()["state"]
    assert list(states) == list(references)
    for i, reference in references.items():
        assert set(states[i]) == set(reference)
        for name, value in reference.items():
            assert states[i][name].dtype == value.dtype
            errors.append(difference(states[i][name].to_dense(), value.to_dense()))
    return max(errors)


def run_both(mine: Make, them: Make, steps: int) -> float:
    """Train two copies of a network, each on its own gradients; return the disagreement."""
    ours, theirs = network(), network()
    opt, reference = mine(ours.parameters()), them(theirs.parameters())
    train(ours, opt, steps)
    train(theirs, reference, steps)
    return disagreement(ours, opt, theirs, reference)


@each_case
def test_trajectory(name: str, settings: dict[str, Any]) -> None:
    """200 steps by hand, in both forms, and by torch."""
    theirs = network()
    reference = maker(torch.optim, name, settings)(theirs.parameters())
    train(theirs, reference, 200)
    for foreach in (None, False):
        ours = network()
        opt = maker(optim, name, settings, foreach=foreach)(ours.parameters())
        train(ours, opt, 200)
        assert disagreement(ours, opt, theirs, reference) <= TOLERANCE, f"foreach={foreach}"


def test_the_two_forms_are_equal_parameter_by_parameter() -> None:
    """The same gradients to both forms, so that nothing but the rule differs."""
    for name, settings in CASES:
        ours, theirs = network(), network()
        quick = maker(optim, name, settings, foreach=True)(ours.parameters())
        plain = maker(optim, name, settings, foreach=False)(theirs.parameters())
        draw = torch.Generator().manual_seed(2)
        for _ in range(50):
            for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
                p.grad = torch.randn(p.shape, generator=draw, dtype=p.dtype)
                q.grad = p.grad.clone()
            quick.step()
            plain.step()
        assert disagreement(ours, quick, theirs, plain) <= 1e-13, (name, settings)


class ForgottenBiasCorrection(optim.Adam):
    def in_place(self, theta: Any, g: Any, past: Any, h: Any) -> None:
        lasting = [{**state, "step": torch.tensor(1e9)} for state in past]
        super().in_place(theta, g, lasting, h)


class EpsInsideTheRoot(optim.RMSprop):
    def formula(self, theta: Any, g: Any, past: Any, h: Any) -> Any:
        _, new = super().formula(theta, g, past, h)
        return -h["lr"] * g / (new["square_avg"] + h["eps"]).sqrt(), new


class StateOneStepLate(optim.Adagrad):
    def formula(self, theta: Any, g: Any, past: Any, h: Any) -> Any:
        _, new = super().formula(theta, g, past, h)
        return -h["lr"] * g / (past["sum"].sqrt() + h["eps"]), new


class FirstStepDampened(optim.SGD):
    def formula(self, theta: Any, g: Any, past: Any, h: Any) -> Any:
        if "momentum_buffer" not in past:
            past = {"momentum_buffer": torch.zeros_like(g)}
        return super().formula(theta, g, past, h)


class NesterovForgotten(optim.SGD):
    def in_place(self, theta: Any, g: Any, past: Any, h: Any) -> None:
        super().in_place(theta, g, past, {**h, "nesterov": False})


class DecayAsPenalty(optim.AdamW):
    def in_place(self, theta: Any, g: Any, past: Any, h: Any) -> None:
        super().in_place(theta, g, past, {**h, "decoupled_weight_decay": False})


class MaximumForgotten(optim.Adam):
    def in_place(self, theta: Any, g: Any, past: Any, h: Any) -> None:
        super().in_place(theta, g, past, {**h, "amsgrad": False})


@pytest.mark.parametrize(
    ("wrong", "name", "settings"),
    [
        (ForgottenBiasCorrection, "Adam", {"lr": 0.01}),
        (EpsInsideTheRoot, "RMSprop", {"lr": 1e-3, "foreach": False}),
        (StateOneStepLate, "Adagrad", {"initial_accumulator_value": 1.0, "foreach": False}),
        (FirstStepDampened, "SGD", {"momentum": 0.9, "dampening": 0.5, "foreach": False}),
        (NesterovForgotten, "SGD", {"momentum": 0.9, "nesterov": True}),
        (DecayAsPenalty, "AdamW", {"lr": 0.01}),
        (MaximumForgotten, "Adam", {"amsgrad": True}),
    ],
)
def test_a_planted_error_is_seen(wrong: Any, name: str, settings: dict[str, Any]) -> None:
    """The right rule passes the comparison by a factor; each wrong one fails it by thousands."""
    reference = maker(torch.optim, name, settings)
    assert run_both(lambda params: wrong(params, **settings), reference, 50) > 1e3 * TOLERANCE
    assert run_both(maker(optim, name, settings), reference, 50) <= TOLERANCE


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "step": lambda opt: optim.lr_scheduler.StepLR(opt, 7, gamma=0.5),
    "one_cycle": lambda opt: optim.lr_scheduler.OneCycleLR(
        opt,
        0.01,
        total_steps=60,
        cycle_momentum={"momentum", "betas"} & set(opt.defaults) != set()
        and not isinstance(opt, torch.optim.Adagrad | optim.Adagrad),
    ),
    "lambda": lambda opt: optim.lr_scheduler.LambdaLR(opt, lambda t: 1 / math.sqrt(t + 1)),
    "cosine": lambda opt: optim.lr_scheduler.CosineAnnealingLR(opt, 50),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", RULES)
def test_schedules(name: str, schedule: str) -> None:
    settings = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    models = network(), network()
    opts = [
        maker(where, name, settings)(m.parameters())
        for where, m in zip((optim, torch.optim), models, strict=True)
    ]
    for model, opt in zip(models, opts, strict=True):
        scheduler = SCHEDULES[schedule](opt)
        for x, y in batches(50):
            opt.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            opt.step()
            scheduler.step()
    assert opts[0].param_groups[0]["lr"] == opts[1].param_groups[0]["lr"]
    assert disagreement(models[0], opts[0], models[1], opts[1]) <= TOLERANCE


@each_form
@each_case
def test_groups_missing_gradients_and_late_groups(
    name: str, settings: dict[str, Any], foreach: bool | None
) -> None:
    """Groups with their own settings, gradients that come and go, a group added on the way."""
    models = network(), network()
    opts = []
    for where, model in zip((optim, torch.optim), models, strict=True):
        w1, b1, w2, b2 = model.parameters()
        groups = [{"params": [w1]}, {"params": [b1], "lr": 0.003, "weight_decay": 0}]
        more = {"foreach": foreach} if where is optim else {}
        opt = maker(where, name, settings, **more)(groups)
        draw = torch.Generator().manual_seed(3)
        for t in range(30):
            if t == 10:
                opt.add_param_group({"params": [w2, b2], "lr": 0.002})
            for i, p in enumerate((w1, b1, w2, b2)):
                g = torch.randn(p.shape, generator=draw, dtype=p.dtype)
                p.grad = None if (t + i) % 3 == 0 else g
            opt.step()
        opts.append(opt)
    assert disagreement(models[0], opts[0], models[1], opts[1]) <= TOLERANCE


@each_form
@each_case
def test_checkpoints_move_either_way(
    name: str, settings: dict[str, Any], foreach: bool | None
) -> None:
    """Train by hand, by torch and by hand again; the state goes through a file each time."""
    ours, theirs = network(), network()
    reference = maker(torch.optim, name, settings)(theirs.parameters())
    train(theirs, reference, 10, seed=1)
    train(theirs, reference, 10, seed=2)
    train(theirs, reference, 10, seed=3)

    saved: dict[str, Any] | None = None
    for seed, where in enumerate((optim, torch.optim, optim), start=1):
        more = {"foreach": foreach} if where is optim else {}
        # Other hyperparameters than the saved ones: loading has to bring them back.
        opt = getattr(where, name)(ours.parameters(), lr=0.5, **more)
        if saved is not None:
            opt.load_state_dict(saved)
            assert opt.param_groups[0]["lr"] == settings.get("lr", opt.defaults["lr"])
        else:
            opt = maker(where, name, settings, **more)(ours.parameters())
        train(ours, opt, 10, seed=seed)
        file = io.BytesIO()
        torch.save(opt.state_dict(), file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
    assert disagreement(ours, opt, theirs, reference) <= TOLERANCE
    assert set(opt.state_dict()["param_groups"][0]) == set(
        reference.state_dict()["param_groups"][0]
    )


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam", "AdamW"])
def test_a_checkpoint_of_a_fused_run_loads(name: str) -> None:
    theirs = network()
    reference = getattr(torch.optim, name)(theirs.parameters(), lr=0.01, fused=True)
    train(theirs, reference, 5)
    ours = copy.deepcopy(theirs)
    opt = getattr(optim, name)(ours.parameters(), lr=0.01)
    # A loaded state dict shares its tensors with the optimizer it came from.
    opt.load_state_dict(copy.deepcopy(reference.state_dict()))
    assert not opt.param_groups[0]["fused"]
    train(theirs, reference, 5, seed=2)
    train(ours, opt, 5, seed=2)
    # torch's fused kernel orders its operations in its own way.
    assert disagreement(ours, opt, theirs, reference) <= 1e-10


def test_an_old_checkpoint_with_a_number_for_the_step_loads() -> None:
    model = network()
    opt = optim.Adam(model.parameters())
    train(model, opt, 3)
    saved = copy.deepcopy(opt.state_dict())
    for state in saved["state"].values():
        state["step"] = 3
    del saved["param_groups"][0]["maximize"]
    opt.load_state_dict(saved)
    train(model, opt, 1)
    assert all(state["step"].item() == 4 for state in opt.state.values())


def test_a_differentiable_checkpoint_is_refused() -> None:
    opt = optim.SGD(network().parameters(), lr=0.1)
    saved = optim.SGD(network().parameters(), lr=0.2).state_dict()
    saved["param_groups"][0]["differentiable"] = True
    with pytest.raises(NotImplementedError, match="differentiable=True"):
        opt.load_state_dict(saved)
    assert opt.param_groups[0]["lr"] == 0.1


@each_case
def test_deepcopy_and_pickle(name: str, settings: dict[str, Any]) -> None:
    model = network()
    opt = maker(optim, name, settings)(model.parameters())
    train(model, opt, 5)
    copies = [copy.deepcopy((model, opt)), pickle.loads(pickle.dumps((model, opt)))]
    train(model, opt, 5, seed=2)
    for other_model, other in copies:
        assert type(other) is type(opt)
        train(other_model, other, 5, seed=2)
        assert disagreement(other_model, other, model, opt) == 0


def test_settings_turned_on_during_training_take_effect() -> None:
    """What a rule needs to remember is made when it is first needed."""
    model = network()
    adam = optim.Adam(model.parameters())
    train(model, adam, 2)
    adam.param_groups[0]["amsgrad"] = True
    train(model, adam, 2)
    assert all("max_exp_avg_sq" in state for state in adam.state.values())
    rms = optim.RMSprop(model.parameters())
    train(model, rms, 2)
    rms.param_groups[0].update(momentum=0.9, centered=True)
    train(model, rms, 2)
    assert all({"momentum_buffer", "grad_avg"} <= set(state) for state in rms.state.values())


@pytest.mark.parametrize("name", RULES)
def test_closure_runs_first_and_with_gradients(name: str) -> None:
    x, y = next(batches(1))
    models = network(), network()
    for where, model in zip((optim, torch.optim), models, strict=True):
        opt = getattr(where, name)(model.parameters(), lr=0.01)

        def closure(model: nn.Module = model, opt: Any = opt) -> Tensor:
            opt.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        losses = [opt.step(closure).item() for _ in range(5)]
        assert losses[-1] < losses[0]
        assert opt.step() is None
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert difference(p, q) <= TOLERANCE


@each_form
@each_case
def test_gradients_are_only_read(name: str, settings: dict[str, Any], foreach: bool | None) -> None:
    model = network()
    opt = maker(optim, name, settings, foreach=foreach)(model.parameters())
    for _ in range(3):
        before = []
        for p in model.parameters():
            p.grad = torch.randn_like(p)
            before.append(p.grad.clone())
        opt.step()
        for p, g in zip(model.parameters(), before, strict=True):
            assert p.grad is not None
            assert torch.equal(p.grad, g)


def sparse_gradient(p: Tensor, draw: torch.Generator) -> Tensor:
    """Return three of six rows, one of them twice."""
    values = torch.randn(4, p.shape[1], generator=draw, dtype=p.dtype)
    return torch.sparse_coo_tensor(
        torch.tensor([[0, 4, 0, 2]]), values, p.shape, check_invariants=True
    )


@pytest.fixture
def checked_sparse_tensors() -> Iterator[None]:
    """Decide about the checks: torch's Adagrad, not ours, warns while nobody has."""
    with torch.sparse.check_sparse_tensor_invariants():
        yield


@pytest.mark.usefixtures("checked_sparse_tensors")
@each_form
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
        ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
        ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5, "maximize": True}),
    ],
    ids=case_id,
)
def test_sparse_gradients(name: str, settings: dict[str, Any], foreach: bool | None) -> None:
    """Beside a dense parameter, with a repeated row, and once with nothing in it."""
    models = nn.Embedding(6, 3).double(), nn.Embedding(6, 3).double()
    models[1].load_state_dict(models[0].state_dict())
    opts = []
    for where, model in zip((optim, torch.optim), models, strict=True):
        dense = torch.full((2,), 0.5, dtype=torch.float64, requires_grad=True)
        more = {"foreach": foreach} if where is optim else {}
        opt = maker(where, name, settings, **more)([model.weight, dense])
        draw = torch.Generator().manual_seed(4)
        for _ in range(10):
            model.weight.grad = sparse_gradient(model.weight, draw)
            dense.grad = torch.randn(2, generator=draw, dtype=torch.float64)
            opt.step()
        rows = torch.empty(1, 0, dtype=torch.long)
        nothing = torch.empty(0, 3, dtype=torch.float64)
        model.weight.grad = torch.sparse_coo_tensor(rows, nothing, (6, 3), check_invariants=True)
        opt.step()
        opts.append(opt)
    assert disagreement(models[0], opts[0], models[1], opts[1]) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("SGD", {"weight_decay": 0.1}, "weight_decay option is not compatible with sparse"),
        ("Adagrad", {"weight_decay": 0.1}, "weight_decay option is not compatible with sparse"),
        ("RMSprop", {}, "RMSprop does not support sparse gradients"),
        ("Adam", {}, "Adam does not support sparse gradients, please consider SparseAdam"),
        ("AdamW", {}, "Adam does not support sparse gradients, please consider SparseAdam"),
    ],
)
def test_sparse_gradients_refused(name: str, settings: dict[str, Any], message: str) -> None:
    weight = torch.zeros(6, 3, dtype=torch.float64, requires_grad=True)
    dense = torch.ones(2, dtype=torch.float64, requires_grad=True)
    opt = maker(optim, name, settings)([dense, weight])
    dense.grad = torch.ones_like(dense)
    weight.grad = sparse_gradient(weight, torch.Generator().manual_seed(5))
    with pytest.raises(RuntimeError, match=message):
        opt.step()
    assert torch.equal(dense, torch.ones_like(dense)), "a refused step moved a parameter"


def test_sparse_gradient_of_a_complex_parameter_refused() -> None:
    weight = torch.zeros(6, 3, dtype=torch.complex128, requires_grad=True)
    opt = optim.Adagrad([weight])
    weight.grad = sparse_gradient(weight, torch.Generator().manual_seed(6))
    with pytest.raises(RuntimeError, match="complex"):
        opt.step()


@each_form
@each_case
def test_complex_and_empty_parameters(
    name: str, settings: dict[str, Any], foreach: bool | None
) -> None:
    shapes = [((3, 2), torch.complex128), ((0,), torch.float64), ((2, 0), torch.float64)]
    models, opts = [], []
    for where in (optim, torch.optim):
        draw = torch.Generator().manual_seed(7)
        model = nn.ParameterList(torch.randn(s, generator=draw, dtype=d) for s, d in shapes)
        more = {"foreach": foreach} if where is optim else {}
        opt = maker(where, name, settings, **more)(model.parameters())
        for _ in range(20):
            for p in model:
                p.grad = torch.randn(p.shape, generator=draw, dtype=p.dtype)
            opt.step()
        models.append(model)
        opts.append(opt)
    assert disagreement(models[0], opts[0], models[1], opts[1]) <= TOLERANCE


@each_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@each_case
def test_low_precision(
    name: str, settings: dict[str, Any], dtype: torch.dtype, foreach: bool | None
) -> None:
    """The error against float64 is at most twice torch's own in the same dtype."""
    if dtype is torch.float16:
        settings = {**settings, "eps": 1e-4} if name != "SGD" else settings
    errors = []
    results: list[Tensor] = []
    for where, kind in ((torch.optim, torch.float64), (torch.optim, dtype), (optim, dtype)):
        draw = torch.Generator().manual_seed(8)
        start = torch.randn(64, generator=draw).to(dtype)
        p = start.to(kind).requires_grad_()
        more = {"foreach": foreach} if where is optim else {}
        opt = maker(where, name, settings, **more)([p])
        for _ in range(5):
            p.grad = torch.randn(64, generator=draw).to(dtype).to(kind)
            opt.step()
        assert p.dtype is kind
        results.append(p.detach().double())
    errors = [(r - results[0]).square().mean().sqrt().item() for r in results[1:]]
    assert errors[1] <= 2 * errors[0] + torch.finfo(dtype).tiny


@pytest.mark.parametrize("name", RULES)
def test_many_dtypes_and_a_large_tensor_in_one_group(name: str) -> None:
    """Lists are split by dtype and by size; every parameter still steps once."""
    shapes = [((3,), torch.float64), ((600, 500), torch.float32), ((4,), torch.float32)] * 2
    models, opts = [], []
    for where in (optim, torch.optim):
        draw = torch.Generator().manual_seed(9)
        model = nn.ParameterList(torch.randn(s, generator=draw, dtype=d) for s, d in shapes)
        opt = getattr(where, name)(model.parameters(), lr=0.01)
        for _ in range(2):
            for p in model:
                p.grad = torch.randn(p.shape, generator=draw, dtype=p.dtype)
            opt.step()
        models.append(model)
        opts.append(opt)
    assert disagreement(models[0], opts[0], models[1], opts[1]) <= 1e-6
    assert difference(models[0][0], models[1][0]) <= TOLERANCE


class Tagged(Tensor):
    """A subclass of Tensor, which lists of tensors are not made for."""


@pytest.mark.parametrize("name", RULES)
def test_tensor_subclasses_and_strided_parameters(name: str) -> None:
    draw = torch.Generator().manual_seed(10)
    start = torch.randn(4, 3, generator=draw, dtype=torch.float64)
    gradient = torch.randn(4, 3, generator=draw, dtype=torch.float64)
    results = []
    for make in (
        Tensor.clone,
        lambda x: x.clone().as_subclass(Tagged),
        lambda x: x.t().clone().t(),
    ):
        p = make(start).requires_grad_()
        opt = getattr(optim, name)([p], lr=0.01)
        for _ in range(3):
            p.grad = gradient.clone() if type(p) is Tensor else make(gradient)
            opt.step()
        results.append(p.detach().as_subclass(Tensor))
    assert difference(results[1], results[0]) <= TOLERANCE
    assert difference(results[2], results[0]) <= TOLERANCE


def test_numbers_given_as_tensors() -> None:
    lr = torch.tensor(0.01, dtype=torch.float64)
    for name in RULES:
        for foreach in (None, False):
            mine = maker(optim, name, {"lr": lr, "foreach": foreach})
            assert run_both(mine, maker(torch.optim, name, {"lr": 0.01}), 20) <= TOLERANCE
    betas = tuple(torch.tensor([b], dtype=torch.float64) for b in (0.9, 0.99))
    assert (
        run_both(
            maker(optim, "Adam", {"betas": betas}),
            maker(torch.optim, "Adam", {"betas": (0.9, 0.99)}),
            20,
        )
        <= TOLERANCE
    )
    decay = torch.tensor(0.1, dtype=torch.float64)
    assert (
        run_both(
            maker(optim, "SGD", {"weight_decay": decay}),
            maker(torch.optim, "SGD", {"weight_decay": 0.1}),
            20,
        )
        <= TOLERANCE
    )


@pytest.mark.parametrize("name", RULES)
def test_signature_is_torchs(name: str) -> None:
    ours = inspect.signature(getattr(optim, name)).parameters
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    assert [(p.name, p.default, p.kind) for p in ours.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {"lr": -1.0}) for name in RULES),
        *((name, {"weight_decay": -1.0}) for name in RULES),
        *((name, {"eps": -1.0}) for name in RULES[1:]),
        *((name, {"lr": torch.ones(2)}) for name in RULES[:3]),
        ("SGD", {"momentum": -0.1}),
        ("SGD", {"nesterov": True}),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
        ("Adagrad", {"lr_decay": -1.0}),
        ("Adagrad", {"initial_accumulator_value": -1.0}),
        ("RMSprop", {"momentum": -1.0}),
        ("RMSprop", {"alpha": -1.0}),
        ("Adam", {"betas": (1.0, 0.9)}),
        ("Adam", {"betas": (0.9, -0.1)}),
        ("AdamW", {"betas": (0, 0.9)}),
        ("AdamW", {"betas": (0.5, torch.tensor(0.9))}),
    ],
    ids=case_id,
)
def test_bad_values_raise_what_torch_raises(name: str, settings: dict[str, Any]) -> None:
    messages = []
    for where in (torch.optim, optim):
        with pytest.raises(ValueError) as caught:
            getattr(where, name)([torch.zeros(2, requires_grad=True)], **settings)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    "settings", [{"lr": torch.tensor(0.1)}, {"betas": (torch.tensor(0.5),) * 2}]
)
def test_tensor_settings_with_foreach_are_refused_as_in_torch(settings: dict[str, Any]) -> None:
    for where in (torch.optim, optim):
        with pytest.raises(ValueError, match="as a Tensor is not supported"):
            where.Adam([torch.zeros(2, requires_grad=True)], foreach=True, **settings)


@pytest.mark.parametrize("flag", ["fused", "capturable", "differentiable"])
@pytest.mark.parametrize("name", RULES)
def test_what_is_not_done_by_hand_is_refused(name: str, flag: str) -> None:
    kind = getattr(optim, name)
    p = torch.zeros(2, requires_grad=True)
    if flag in inspect.signature(kind).parameters:
        with pytest.raises(NotImplementedError, match=f"{name} by hand has no {flag}=True"):
            kind([p], **{flag: True})
        kind([p], **{flag: False})
    opt = kind([p])
    group = {"params": [torch.zeros(3, requires_grad=True)], flag: True}
    with pytest.raises(NotImplementedError, match=f"no {flag}=True"):
        opt.add_param_group(group)
    assert len(opt.param_groups) == 1


def test_capturing_a_cuda_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    p = torch.zeros(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="cannot be captured in a CUDA graph"):
        optim.Adam([p]).step()
    optim.SGD([p]).step()


@pytest.mark.parametrize("name", RULES)
def test_hooks(name: str) -> None:
    model = network()
    opt = getattr(optim, name)(model.parameters())
    seen: list[str] = []
    handles = [
        opt.register_step_pre_hook(lambda *_: seen.append("before")),
        opt.register_step_post_hook(lambda *_: seen.append("after")),
        opt.register_state_dict_post_hook(lambda *_: seen.append("saved")),
    ]
    train(model, opt, 2)
    opt.state_dict()
    assert seen == ["before", "after", "before", "after", "saved"]
    for handle in handles:
        handle.remove()
    train(model, opt, 1)
    assert len(seen) == 5


@pytest.mark.parametrize("name", RULES)
def test_named_parameters(name: str) -> None:
    model = network()
    opt = getattr(optim, name)(model.named_parameters())
    train(model, opt, 2)
    assert opt.state_dict()["param_groups"][0]["param_names"][0] == "0.weight"


def test_adagrad_sums_can_be_shared() -> None:
    opt = optim.Adagrad(network().parameters())
    opt.share_memory()
    assert all(state["sum"].is_shared() for state in opt.state.values())


def test_adam_keeps_its_decay_when_it_loads_the_other_kind() -> None:
    adam, adamw = (kind(network().parameters()) for kind in (optim.Adam, optim.AdamW))
    adamw.load_state_dict(adam.state_dict())
    assert adamw.param_groups[0]["decoupled_weight_decay"]


def test_amsgrad_solves_the_problem_that_adam_fails() -> None:
    """Reddi 2018, section 3: f_t(x) = C x every third step and -x else; the optimum is -1."""
    ends = {}
    for amsgrad in (False, True):
        x = torch.zeros((), dtype=torch.float64, requires_grad=True)
        opt = optim.Adam([x], lr=0.1, betas=(0.0, 0.1), eps=1e-12, amsgrad=amsgrad)
        schedule = optim.lr_scheduler.LambdaLR(opt, lambda t: 1 / math.sqrt(t + 1))
        for t in range(1500):
            x.grad = torch.tensor(3.0 if t % 3 == 0 else -1.0, dtype=torch.float64)
            opt.step()
            schedule.step()
            with torch.no_grad():
                x.clamp_(-1, 1)
        ends[amsgrad] = x.item()
    assert ends[False] > 0.9
    assert ends[True] < -0.9


@pytest.mark.parametrize("name", RULES)
def test_gradient_scaler_skips_an_overflow(name: str) -> None:
    x, y = next(batches(1))
    models = network(), network()
    opts = []
    for where, model in zip((optim, torch.optim), models, strict=True):
        opt = getattr(where, name)(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu")
        for t in range(5):
            opt.zero_grad()
            loss = nn.functional.mse_loss(model(x), y) * (math.inf if t == 2 else 1)
            scaler.scale(loss).backward()
            scaler.step(opt)
            scaler.update()
        opts.append(opt)
    assert disagreement(models[0], opts[0], models[1], opts[1]) <= TOLERANCE


@pytest.mark.filterwarnings("ignore:::pytorch_lightning.*")  # it has warnings of its own
def test_under_lightning_with_a_schedule_and_a_resume(tmp_path: Path) -> None:
    import pytorch_lightning as lightning  # here, where alone its five seconds are needed

    class Fit(lightning.LightningModule):
        def __init__(self, where: Any) -> None:
            super().__init__()
            self.where, self.net = where, network()

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            opt = self.where.AdamW(self.net.parameters(), lr=0.01)
            return [opt], [self.where.lr_scheduler.StepLR(opt, 1, gamma=0.5)]

    data = torch.utils.data.TensorDataset(
        *(torch.cat(part) for part in zip(*batches(4), strict=True))
    )
    loader = torch.utils.data.DataLoader(data, batch_size=6)
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    ends = []
    for where in (optim, torch.optim):
        first = lightning.Trainer(max_epochs=2, **quiet)
        first.fit(Fit(where), loader)
        path = tmp_path / "two_epochs.ckpt"
        first.save_checkpoint(path)
        fit = Fit(where)
        lightning.Trainer(max_epochs=4, **quiet).fit(fit, loader, ckpt_path=path)
        ends.append(list(fit.parameters()))
    for p, q, start in zip(*ends, network().parameters(), strict=True):
        assert difference(p, q) <= TOLERANCE
        assert difference(p, start) > 1e-3, "nothing was trained"
