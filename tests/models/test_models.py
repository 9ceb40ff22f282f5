"""Models nobody here wrote, unchanged, on hand-written backprop: the gradients are autograd's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

import manual_bp
from manual_bp.model_audit.in_float64 import InFloat64
from manual_bp.precision import relative_error

from . import library, plain

Make = Callable[[], tuple[nn.Module, dict[str, Any]]]

_needs_transformers = pytest.mark.skipif(
    find_spec("transformers") is None, reason="needs the package transformers (extra: dev)"
)


def _models(*left_out: str) -> pytest.MarkDecorator:
    """One test for each model but those named."""
    cases = [pytest.param(make, id=make.__name__) for make in plain.MODELS]
    cases += [
        pytest.param(make, id=make.__name__, marks=_needs_transformers)
        for make in library.ARCHITECTURES
    ]
    return pytest.mark.parametrize("make", [c for c in cases if c.id not in left_out])


def _made(make: Make, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, dict[str, Any]]:
    torch.manual_seed(0)
    model, given = make()
    with torch.no_grad():
        # The libraries' own weights are so small that most gradients are next to nothing.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model.to(dtype), {
        key: a.to(dtype) if isinstance(a, Tensor) and a.is_floating_point() else a
        for key, a in given.items()
    }


def _loss(
    model: Callable[..., Any], given: dict[str, Any], *modes: AbstractContextManager[Any]
) -> Tensor:
    torch.manual_seed(1)
    with ExitStack() as stack:
        for mode in modes:
            stack.enter_context(mode)
        return _of(model(**given))


def _of(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.loss


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _gradients(loss: Tensor, model: nn.Module) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss, list(_trained(model).values()), allow_unused=True)


def _assert_same(
    found: Sequence[Tensor | None],
    expected: Sequence[Tensor | None],
    model: nn.Module,
    tolerance: float = 1e-8,
) -> None:
    scale = max(float(g.norm()) for g in expected if g is not None)
    assert scale > 0
    for name, a, b in zip(_trained(model), found, expected, strict=True):
        assert (a is None) == (b is None), name
        assert relative_error(a, b, scale) < tolerance, name


def _assert_by_hand(loss: Tensor) -> None:
    assert (report := manual_bp.audit(loss)).all_by_hand, report


@_models()
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_gradients(make: Make, training: bool) -> None:
    model, given = _made(make)
    model.train(training)
    start = copy.deepcopy(model.state_dict())  # running statistics move
    loss = _loss(model, given, InFloat64())
    expected = _gradients(loss, model)
    model.load_state_dict(start)
    by_hand = _loss(model, given, manual_bp.by_hand(), manual_bp.located(), InFloat64())
    _assert_by_hand(by_hand)
    torch.testing.assert_close(by_hand, loss, rtol=1e-12, atol=1e-12)
    _assert_same(_gradients(by_hand, model), expected, model)


@_models()
def test_ten_steps_of_adamw(make: Make) -> None:
    """Dropout and all: the update rule by hand too, and the weights end where torch's do."""
    model, given = _made(make)
    twin = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    by_hand = manual_bp.optim.AdamW(twin.parameters(), lr=1e-3)
    start = copy.deepcopy(model.state_dict())
    for _ in range(10):
        optimizer.zero_grad()
        _loss(model, given, InFloat64()).backward()
        optimizer.step()
        by_hand.zero_grad()
        _loss(twin, given, manual_bp.by_hand(), InFloat64()).backward()
        by_hand.step()
    # Where the true gradient is 0, as of a key's bias, Adam divides its rounding by eps = 1e-8.
    torch.testing.assert_close(twin.state_dict(), model.state_dict(), rtol=1e-9, atol=1e-9)
    moved = [not torch.equal(start[name], p) for name, p in _trained(model).items()]
    assert any(moved)


@_models()
def test_under_autocast(make: Make) -> None:
    """As near to float32's gradients as torch is in bfloat16, by a factor of two."""
    model, given = _made(make, torch.float32)
    model.eval()
    exact = _gradients(_loss(model, given), model)
    lower = torch.autocast("cpu", torch.bfloat16)
    native = _loss(model, given, lower)
    manual = _loss(model, given, lower, manual_bp.by_hand())
    assert manual.dtype == native.dtype
    _assert_by_hand(manual)
    found, expected = _gradients(manual, model), _gradients(native, model)
    for a, b in zip(found, expected, strict=True):
        assert a is None or b is None or a.dtype == b.dtype
    assert _distance(found, exact) <= 2 * _distance(expected, exact) + 1e-6


def _distance(found: Sequence[Tensor | None], exact: Sequence[Tensor | None]) -> float:
    """Of all gradients together, relative."""
    pairs = [(a, b) for a, b in zip(found, exact, strict=True) if a is not None and b is not None]
    difference = sum(float((a - b).square().sum()) for a, b in pairs)
    return (difference / sum(float(b.square().sum()) for _, b in pairs)) ** 0.5


@_models()
def test_checkpointed(make: Make) -> None:
    """The forward pass is made again during the backward, by hand, with the same dropout."""
    model, given = _made(make)
    expected = _gradients(_loss(model, given), model)
    runs: list[bool] = []

    def run(**kwargs: Any) -> Tensor:
        stack = torch.overrides._get_current_function_mode_stack()
        runs.append(any(isinstance(mode, manual_bp.by_hand) for mode in stack))
        return _of(model(**kwargs))

    def checkpointed(**kwargs: Any) -> Tensor:
        return checkpoint(run, use_reentrant=False, **kwargs)

    loss = _loss(checkpointed, given, manual_bp.by_hand())
    found = _gradients(loss, model)
    assert runs == [True, True]
    _assert_same(found, expected, model, 1e-5)  # through float32 on the way


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
@_needs_transformers
def test_a_library_that_checkpoints_by_itself() -> None:
    model, given = _made(library.gpt2)
    expected = _gradients(_loss(model, given), model)
    model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    model.train()
    found = _gradients(_loss(model, given, manual_bp.by_hand()), model)
    _assert_same(found, expected, model, 1e-5)  # through float32 on the way


@_models()
def test_second_order(make: Make) -> None:
    if make is library.wav2vec2:
        pytest.skip("PyTorch has no second derivative of ctc_loss to compare with")
    model, given = _made(make)
    model.eval()
    with sdpa_kernel(SDPBackend.MATH):  # torch's other kernels have none
        expected = _second(_loss(model, given, InFloat64()), model)
    found = _second(_loss(model, given, manual_bp.by_hand(), InFloat64()), model)
    _assert_same(found, expected, model)


def _second(loss: Tensor, model: nn.Module) -> tuple[Tensor | None, ...]:
    parameters = list(_trained(model).values())
    first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    along = [(g * g.detach().cos()).sum() for g in first if g is not None and g.requires_grad]
    return torch.autograd.grad(sum(along), parameters, allow_unused=True)  # type: ignore[arg-type]


def _stateless(model: nn.Module) -> Callable[[dict[str, Tensor], dict[str, Any]], Tensor]:
    return lambda parameters, given: _of(functional_call(model, parameters, (), given))


@_models()
def test_functional_call_and_grad(make: Make) -> None:
    model, given = _made(make)
    model.eval()
    parameters = {name: p.detach() for name, p in _trained(model).items()}
    with InFloat64():
        expected = grad(_stateless(model))(parameters, given)
    with manual_bp.by_hand(), InFloat64():
        found = grad(_stateless(model))(parameters, given)
    _assert_same(list(found.values()), list(expected.values()), model)


# Through these torch's own vmap does not go: they look at values, or cell by cell. The loss of
# clip sets examples against each other.
NO_VMAP = ("bert", "clip", "deberta", "mamba", "mixtral", "sequences", "wav2vec2")


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of torch's own attention
@_models(*NO_VMAP)
def test_gradients_of_each_example(make: Make) -> None:
    model, given = _made(make)
    model.eval()
    parameters = {name: p.detach() for name, p in _trained(model).items()}
    batch = {k: a.unsqueeze(1) if isinstance(a, Tensor) else a for k, a in given.items()}
    dims = {k: 0 if isinstance(a, Tensor) else None for k, a in given.items()}
    each = vmap(grad(_stateless(model)), (None, dims))
    with InFloat64():
        expected = each(parameters, batch)
    with manual_bp.by_hand(), InFloat64():
        found = each(parameters, batch)
    _assert_same(list(found.values()), list(expected.values()), model)


# At these torch's own tracer stops, too: data-dependent branches, an LSTM, a lock.
NOT_COMPILED = ("transformer", "sequences", "mixtral", "wav2vec2")


@pytest.mark.slow
@_models(*NOT_COMPILED)
def test_compiles_whole(make: Make) -> None:
    """One graph, traced forward and backward; aot_eager leaves out the code generator alone."""
    model, given = _made(make)
    model.eval()
    expected = _loss(model, given)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = _loss(compiled, given, manual_bp.by_hand())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # float32 on the way
    _assert_same(_gradients(found, model), _gradients(expected, model), model, 1e-5)
