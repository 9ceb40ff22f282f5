"""by_hand(), register() and audit() around whole models of plain torch.nn."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import manual_bp
from manual_bp.spec import Draw


class Residual(nn.Module):
    """A block of plain torch.nn, with what lies between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(5)
        self.linear = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(self.norm(x))
        h += x
        return x + torch.relu(h)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 5), Residual(), nn.ReLU(inplace=True), nn.Linear(5, 2)
    ).double()


X = Draw(3).fixed(7, 3)
COTANGENT = Draw(4).fixed(7, 2)


def _gradients(model: nn.Module) -> list[Tensor]:
    y = model(X)
    return list(torch.autograd.grad(y, list(model.parameters()), COTANGENT))


def test_a_plain_model_runs_by_hand(model: nn.Module) -> None:
    expected = _gradients(model)
    with manual_bp.by_hand():
        y = model(X)
        found = _gradients(model)
    assert manual_bp.audit(y).all_by_hand
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not manual_bp.audit(model(X)).by_hand  # and outside nothing has changed


@pytest.mark.parametrize("wrong", [nn.Linear(2, 2), 3, [3]])
def test_an_audit_is_of_tensors(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"audit\(\) takes a tensor or several, got (Linear|int)"):
        manual_bp.audit(wrong)


def test_only_narrows(model: nn.Module) -> None:
    with manual_bp.by_hand(only={"relu"}):
        report = manual_bp.audit(model(X))
    assert set(report.by_hand) == {"ReLUFunction", "CopyFunction"}
    assert "AddmmBackward0" in report.autograd
    assert not report.all_by_hand
    assert "autograd" in str(report) and "by hand" in str(report)


def test_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match="did you mean 'linear'"):
        manual_bp.by_hand(only={"linaer"})


def test_an_exception_leaves_nothing_switched_on(model: nn.Module) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), manual_bp.by_hand():
        model(X[:, :2])
    assert not manual_bp.audit(model(X)).by_hand


def test_nested(model: nn.Module) -> None:
    with manual_bp.by_hand(only={"relu"}):
        with manual_bp.by_hand(only={"linear"}):
            inner = manual_bp.audit(model(X))
        outer = manual_bp.audit(model(X))
    assert {"ReLUFunction", "LinearFunction"} <= set(inner.by_hand)
    assert "LinearFunction" not in outer.by_hand


def test_nothing_is_replaced_without_gradients(model: nn.Module) -> None:
    with manual_bp.by_hand(), torch.no_grad():
        assert model(X).grad_fn is None


def test_what_is_written_into_out_is_torchs_own() -> None:
    y = torch.empty(2)
    with manual_bp.by_hand():
        torch.exp(torch.zeros(2), out=y)
    assert y.tolist() == [1.0, 1.0]


def test_numpys_names_of_arguments() -> None:
    x = Draw()(4, 3)
    with manual_bp.by_hand():
        y = x.sum(axis=1, keepdims=True) + torch.concatenate([x, x], axis=1).mean(axis=1)  # type: ignore[call-overload,call-arg]
    assert manual_bp.audit(y).all_by_hand
    expected = x.sum(1, True) + torch.cat([x, x], 1).mean(1)
    torch.testing.assert_close(y, expected)


def test_backward_inside_and_outside_agree(model: nn.Module) -> None:
    with manual_bp.by_hand():
        model(X).backward(COTANGENT)
    inside = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    with manual_bp.by_hand():
        y = model(X)
    y.backward(COTANGENT)
    assert all(torch.equal(a, p.grad) for a, p in zip(inside, model.parameters(), strict=True))  # type: ignore[arg-type]


def test_checkpointed(model: nn.Module) -> None:
    from torch.utils.checkpoint import checkpoint

    expected = _gradients(model)
    again: list[bool] = []

    def run(x: Tensor) -> Tensor:
        y = model(x)
        again.append(manual_bp.audit(y).all_by_hand)
        return y

    with manual_bp.by_hand():
        y = checkpoint(
            run, X, use_reentrant=False, context_fn=lambda: (nullcontext(), manual_bp.by_hand())
        )
    y.backward(COTANGENT)
    found = [p.grad for p in model.parameters()]
    assert again == [True]  # the second run stops early, at the last tensor that is needed
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_func_grad_vmap_and_functional_call(model: nn.Module) -> None:
    from torch.func import functional_call, grad, vmap

    model = nn.Sequential(model[0], model[1].norm, nn.ReLU(), model[3])  # type: ignore[index]
    parameters: dict[str, Tensor] = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor, g: Tensor) -> Tensor:
        return (functional_call(model, parameters, (x,)) * g).sum()

    per_example = vmap(grad(loss), (None, 0, 0))
    expected = per_example(parameters, X, COTANGENT)
    with manual_bp.by_hand():
        found = per_example(parameters, X, COTANGENT)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_compiles_whole(model: nn.Module) -> None:
    torch._dynamo.reset()
    expected = _gradients(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with manual_bp.by_hand():
        y = compiled(X)
    found = torch.autograd.grad(y, list(model.parameters()), COTANGENT)
    torch.testing.assert_close(list(found), expected, rtol=1e-12, atol=1e-12)


class DoubledReLU(torch.autograd.Function):
    """A gradient that is wrong by a factor, so that its use shows."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return 2 * grad_y * (y > 0)


def test_register_puts_ones_own_gradient_in_place() -> None:
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    g = Draw(1, torch.float32).fixed(2)

    def slope() -> list[float]:
        with manual_bp.by_hand():
            y = torch.relu(x)
        return (torch.autograd.grad(y, x, g)[0] / g).tolist()

    with manual_bp.register(torch.relu, lambda x: DoubledReLU.apply(x), name="doubled"):
        assert slope() == [0.0, 2.0]
        with manual_bp.by_hand(only={"doubled"}):
            assert manual_bp.audit(torch.relu(x)).by_hand == {"DoubledReLU": 1}
    assert slope() == [0.0, 1.0]
    handle = manual_bp.register(torch.relu, lambda x: DoubledReLU.apply(x))
    assert slope() == [0.0, 2.0]
    handle.remove()
    handle.remove()
    assert slope() == [0.0, 1.0]


def test_registrations_are_undone_in_any_order() -> None:
    x = torch.tensor([2.0], requires_grad=True)

    def taken() -> set[str]:
        with manual_bp.by_hand():
            return set(manual_bp.audit(torch.relu(x) + torch.nn.functional.one_hot(N, 3)).by_hand)

    N = torch.tensor([1])
    before = taken()
    first = manual_bp.register(torch.relu, lambda x: DoubledReLU.apply(x))
    second = manual_bp.register(torch.relu, lambda x: torch.nn.functional.elu(x))
    assert "DoubledReLU" not in taken()
    first.remove()
    assert "DoubledReLU" not in taken()
    second.remove()
    assert taken() == before
    # And what has no gradient by hand is torch's own again.
    with manual_bp.register(torch.nn.functional.one_hot, lambda t, n: torch.zeros(1, n)):
        with manual_bp.by_hand():
            assert not torch.nn.functional.one_hot(N, 3).any()
    with manual_bp.by_hand():
        assert torch.nn.functional.one_hot(N, 3).any()


def test_the_same_context_inside_itself(model: nn.Module) -> None:
    context = manual_bp.by_hand()
    with context:
        with context:
            inner = manual_bp.audit(model(X))
        outer = manual_bp.audit(model(X))
    with context:
        again = manual_bp.audit(model(X))
    assert inner.all_by_hand and outer.all_by_hand and again.all_by_hand
    assert not manual_bp.audit(model(X)).by_hand


def test_a_model_that_switches_it_on_itself(model: nn.Module) -> None:
    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with manual_bp.by_hand(only={"tanh"}):
                return torch.tanh(torch.sigmoid(x))

    x = X.clone().requires_grad_()
    alone = manual_bp.audit(Own()(x))
    assert set(alone.by_hand) == {"TanhFunction"} and "SigmoidBackward0" in alone.autograd
    with manual_bp.by_hand():
        assert manual_bp.audit(Own()(x)).all_by_hand


def test_an_exception_in_the_backward_leaves_nothing_switched_on() -> None:
    def fails(grad: Tensor) -> Tensor:
        raise RuntimeError("in the backward")

    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="in the backward"), manual_bp.by_hand():
        y = torch.relu(x)
        y.register_hook(fails)
        y.backward(Draw(5).fixed(*y.shape))
    assert not torch.overrides._get_current_function_mode_stack()
    assert not manual_bp.audit(torch.relu(x)).by_hand


def test_threads_have_contexts_of_their_own(model: nn.Module) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    both = Barrier(2)

    def run(only: set[str] | None) -> tuple[manual_bp.Audit, list[Tensor]]:
        with manual_bp.by_hand(only=only):
            both.wait()  # until the other is inside, too
            y = model(X)
            both.wait()
            return manual_bp.audit(y), list(
                torch.autograd.grad(y, list(model.parameters()), COTANGENT)
            )

    def native(_: None) -> manual_bp.Audit:
        return manual_bp.audit(model(X))

    expected = _gradients(model)
    with ThreadPoolExecutor(2) as threads:
        whole, part = threads.map(run, [None, {"linear"}])
        with manual_bp.by_hand():
            (other,) = threads.map(native, [None])
    assert whole[0].all_by_hand
    assert set(part[0].by_hand) == {"LinearFunction"}
    assert not other.by_hand  # a context holds in the thread that entered it
    for found in (whole[1], part[1]):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_backward_in_another_thread(model: nn.Module) -> None:
    from threading import Thread

    expected = _gradients(model)
    with manual_bp.by_hand():
        y = model(X)
    other = Thread(target=lambda: y.backward(COTANGENT))
    other.start()
    other.join()
    found = [p.grad for p in model.parameters()]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_under_autocast_with_a_scaled_loss(model: nn.Module) -> None:
    def scaled_loss(y: Tensor) -> Tensor:
        return (y * COTANGENT).sum() * 1024

    model = model.float()
    x = X.float()
    with torch.autocast("cpu", torch.bfloat16):
        expected = torch.autograd.grad(scaled_loss(model(x)), list(model.parameters()))
        with manual_bp.by_hand():
            y = model(x)
            assert y.dtype == torch.bfloat16 and manual_bp.audit(y).all_by_hand
            found = torch.autograd.grad(scaled_loss(y), list(model.parameters()))
    torch.testing.assert_close(found, expected, rtol=4e-2, atol=8)  # bfloat16 has 8 bits


CHECKPOINTED: dict[str, Any] = {
    "product": lambda x: torch.nn.functional.gelu(x) * x,  # saves what has one shape, in an order
    "exponential": lambda x: x.exp() * x,
    "dropout": lambda x: torch.nn.functional.dropout(torch.tanh(x)) * x,
}


@pytest.mark.parametrize("name", CHECKPOINTED)
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
@pytest.mark.parametrize("forward", [True, False], ids=["by hand", "autograd"])
@pytest.mark.parametrize("backward", [True, False], ids=["backward in it", "backward out of it"])
def test_checkpointed_like_the_first_time(
    name: str, reentrant: bool, forward: bool, backward: bool
) -> None:
    """One run by hand and the other not would mix up what they save, with no error to see."""
    from torch.utils.checkpoint import checkpoint

    f = CHECKPOINTED[name]
    x = X.clone().requires_grad_()
    cotangent = Draw(5).fixed(7, 3)
    torch.manual_seed(0)
    expected = torch.autograd.grad(f(x), x, cotangent)
    with manual_bp.by_hand() if forward else nullcontext():
        torch.manual_seed(0)
        y = checkpoint(f, x, use_reentrant=reentrant)
    with manual_bp.by_hand(only={"mul"}) if backward else nullcontext():
        y.backward(cotangent)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected[0], rtol=1e-12, atol=1e-12)
    assert not torch.overrides._get_current_function_mode_stack()


def test_checkpointing_runs_again_under_the_contexts_of_the_first_time() -> None:
    from torch.utils.checkpoint import checkpoint

    stacks: list[list[Any]] = []

    def run(x: Tensor) -> Tensor:
        stacks.append(torch.overrides._get_current_function_mode_stack())
        return torch.tanh(x) * x

    x = X.clone().requires_grad_()
    cotangent = Draw(5).fixed(7, 3)
    (expected,) = torch.autograd.grad(torch.tanh(x) * x, x, cotangent)
    with manual_bp.by_hand(only={"mul"}), manual_bp.by_hand():
        y = checkpoint(run, x, use_reentrant=False)
    with manual_bp.by_hand():
        y.backward(cotangent)
    first, again = stacks
    assert len(first) == 2 and first == again
    torch.testing.assert_close(x.grad, expected, rtol=1e-12, atol=1e-12)


def test_register_takes_callables() -> None:
    with pytest.raises(TypeError, match="two callables, got 'relu'"):
        manual_bp.register("relu", torch.relu)  # type: ignore[arg-type]


def test_a_hook_on_a_module_is_no_operation() -> None:
    seen: list[Tensor | None] = []
    layer = manual_bp.nn.Linear(3, 2)
    layer.register_full_backward_hook(lambda *args: seen.append(args[2][0]))
    y = layer(torch.randn(4, 3, requires_grad=True))
    assert manual_bp.audit(y).by_hand.total() == 1 and manual_bp.audit(y).all_by_hand
    upstream = torch.randn_like(y)
    y.backward(upstream)
    assert len(seen) == 1 and seen[0] is not None and torch.equal(seen[0], upstream)


def test_audit_of_nothing_and_of_no_tensor() -> None:
    report = manual_bp.audit(torch.ones(2))
    assert not report.all_by_hand
    assert "no backward graph" in str(report)
    with pytest.raises(TypeError, match="got int"):
        manual_bp.audit([1])  # type: ignore[list-item]


def test_a_checkpoint_node_of_torch_is_not_by_hand() -> None:
    from torch.utils.checkpoint import checkpoint

    y = checkpoint(torch.relu, X.clone().requires_grad_(), use_reentrant=True)
    assert not manual_bp.audit(y).all_by_hand


INDICES: list[Any] = [
    1,
    (slice(None), torch.tensor([2, 0, 2])),
    (torch.tensor([1, 0]), slice(None), torch.tensor([2, 1])),
    (..., None, 1),
    torch.tensor([True, False, True, True]),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
@pytest.mark.parametrize("dims", [(0, 0), (1, 0), (0, None)], ids=str)
def test_writing_under_vmap(index: Any, dims: tuple[int, int | None]) -> None:
    """In every example of a batch, wherever its axis is, and as often as the index says."""
    from torch.func import grad, vmap

    draw = Draw(6)
    batch = draw.fixed(5, 4, 3, 6)
    y = (
        draw.fixed(5, *batch[0][index].shape)
        if dims[1] == 0
        else draw.fixed(*batch[0][index].shape)
    )

    def loss(x: Tensor, y: Tensor) -> Tensor:
        z = x.sin()
        z.copy_(2 * z)
        z += y.sum()
        z[index] = y
        return (z * z.cos()).sum()

    # One example at a time: torch itself refuses to batch one of these indices.
    rows = [grad(loss, (0, 1))(x, y if dims[1] is None else y[i]) for i, x in enumerate(batch)]
    expected = tuple(torch.stack(column) for column in zip(*rows, strict=True))
    with manual_bp.by_hand():
        found = vmap(grad(loss, (0, 1)), dims)(batch.movedim(0, dims[0]), y)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_batch_is_not_written_into_one_tensor() -> None:
    y = Draw(6).fixed(5, 3)
    with manual_bp.by_hand(), pytest.raises(RuntimeError, match="a whole batch into one tensor"):
        torch.func.vmap(lambda y: torch.zeros(3, dtype=y.dtype).copy_(y))(y)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.view(-1)[2:5] + torch.cat([x[0], x[1]]).view(2, 3).transpose(0, 1)[0, 0],
        lambda x: torch.einsum("ij,kj->ik", x, x).narrow(0, 1, 2),
        lambda x: torch.nn.functional.interpolate(x[None, None], scale_factor=2),
    ],
)
def test_compiles_where_nothing_needs_a_gradient(f: Any) -> None:
    """Dynamo hands a forward with ``*args`` one argument too many there."""
    torch._dynamo.reset()
    with manual_bp.by_hand():
        y = torch.compile(f, fullgraph=True, backend="eager")(X)
    torch.testing.assert_close(y, f(X))
