r"""CTC: how likely a sequence of labels is, over all the ways to spread it along the time.

Indices: ``t`` step of ``T``, ``n`` example, ``c`` class of ``C``, ``x_tnc`` its log-probability,
``l`` the labels of one example, S of them. A path gives one class at each step; repeated classes
are one, and then blanks are left out. ``l'`` is ``l`` with blanks around and between, 2S + 1
places ``s``.

Forward: alpha_ts is the log-probability of all that leads to place s at step t, the class of s
included. A place is reached from itself, from the one before, and over a blank between two
different labels from the one before that::

    alpha_ts = x_{t, l'_s} + logsumexp(alpha_{t-1,s}, alpha_{t-1,s-1}, alpha_{t-1,s-2})
    L = -logsumexp(alpha_{T,2S}, alpha_{T,2S-1})                                 (N)

Backward: beta_ts is the same from behind, of all that follows place s at step t, with the class
of s. The paths through s at step t then have the probability exp(alpha + beta - x), and their
share of all paths is how much of the loss's gradient that class takes::

    beta_ts  = x_{t, l'_s} + logsumexp(beta_{t+1,s}, beta_{t+1,s+1}, beta_{t+1,s+2})
    o_tc     = sum_{s: l'_s = c} exp(alpha_ts + beta_ts - x_tc + L)              (T, N, C)
    dL/dx_tc = dL (exp(x_tc) - o_tc)

The derivative itself is -o. Torch adds exp(x), the gradient of a log_softmax before it: behind a
log_softmax, whose own gradient takes out any multiple of exp(x), both are the same, and this form
is *prediction minus truth*, with the truth spread over the possible paths. As in torch, it is
right for inputs that are log-probabilities, and there is no gradient of the gradient.

Each step of alpha and beta works on all examples and places at once; the steps are a loop.

Graves, Fernandez, Gomez & Schmidhuber (2006), "Connectionist Temporal Classification",
section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from manual_bp.function import Function, under_autocast
from manual_bp.ops.view import squeeze, unsqueeze
from manual_bp.reduction import reduced
from manual_bp.spec import Draw, Sample, Spec, sample

Lengths = Tensor | tuple[int, ...] | list[int]


class CTCLossFunction(Function):
    """``x``: (T, N, C), ``targets``: (N, S) or (sum of lengths,); lengths as tuples of N."""

    generate_vmap_rule = False  # torch's kernel has none

    @staticmethod
    def forward(
        x: Tensor,
        targets: Tensor,
        input_lengths: tuple[int, ...],
        target_lengths: tuple[int, ...],
        blank: int,
        reduction: str,
        zero_infinity: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        losses, alpha = torch._ctc_loss(
            x, targets, input_lengths, target_lengths, blank, zero_infinity
        )
        y = torch.where(losses == torch.inf, 0.0, losses) if zero_infinity else losses
        if reduction == "mean":
            y = y / torch.tensor(target_lengths, device=y.device).clamp(min=1)
        return reduced(y, reduction), losses.clone(), alpha  # never one tensor twice

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, targets, ctx.input_lengths, ctx.target_lengths = inputs[:4]
        ctx.blank, ctx.reduction, ctx.zero_infinity = inputs[4:]
        _, losses, alpha = output
        ctx.mark_non_differentiable(losses, alpha)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, targets, losses, alpha)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return (None,) * 7
        x, targets, losses, alpha = ctx.saved_tensors
        steps, lengths = (
            torch.tensor(t, device=x.device) for t in (ctx.input_lengths, ctx.target_lengths)
        )
        places = extended(targets, ctx.target_lengths, ctx.blank, alpha.shape[2])  # (N, 2S+1)
        at_place = x.transpose(0, 1).gather(
            2, places.unsqueeze(1).expand(-1, x.shape[0], -1)
        )  # (N, T, 2S+1)
        beta = backwards(at_place, places, steps, lengths, ctx.blank)
        paths = (alpha + beta - at_place + losses.view(-1, 1, 1)).exp_()
        paths = torch.where(beta == -torch.inf, 0.0, paths)
        o = torch.zeros_like(x).transpose(0, 1).contiguous()  # (N, T, C)
        o.scatter_add_(2, places.unsqueeze(1).expand_as(paths), paths)
        # Where no path leads to the labels L is infinite and, as torch has it, the gradient NaN.
        o += (losses - losses).view(-1, 1, 1)
        g = grad_y.expand_as(losses)
        if ctx.reduction == "mean":
            g = g / (lengths.clamp(min=1) * losses.shape[0])
        grad_x = (x.transpose(0, 1).exp() - o).mul_(g.view(-1, 1, 1))
        counts = torch.arange(x.shape[0], device=x.device) < steps.unsqueeze(1)  # (N, T)
        if ctx.zero_infinity:
            counts = counts & (losses != torch.inf).unsqueeze(1)
        grad_x = torch.where(counts.unsqueeze(2), grad_x, 0.0).transpose(0, 1)
        return grad_x, *(None,) * 6


def extended(targets: Tensor, lengths: tuple[int, ...], blank: int, width: int) -> Tensor:
    """l', (N, width): blanks around and between the labels, and after the last."""
    places = targets.new_full((len(lengths), width), blank, dtype=torch.int64)
    labels = targets.split(lengths) if targets.dim() == 1 else targets
    for n, (label, length) in enumerate(zip(labels, lengths, strict=True)):
        places[n, 1 : 2 * length : 2] = label[:length]
    return places


def backwards(
    at_place: Tensor, places: Tensor, steps: Tensor, lengths: Tensor, blank: int
) -> Tensor:
    """Give beta, (N, T, 2S+1); -inf where an example has no such step, or no such place."""
    never = at_place.new_full((), -torch.inf)
    place = torch.arange(places.shape[1], device=places.device)
    last = 2 * lengths.unsqueeze(1)  # (N, 1)
    ends = (place == last) | (place == last - 1)
    over = (places != places.roll(-2, 1)) & (places != blank) & (place + 2 <= last)
    beta = torch.full_like(at_place, -torch.inf)
    after = beta[:, 0]
    for t in reversed(range(at_place.shape[1])):
        wider = torch.nn.functional.pad(after, (0, 2), value=-torch.inf)
        ahead = torch.logaddexp(after, wider[:, 1:-1])
        ahead = torch.logaddexp(ahead, torch.where(over, wider[:, 2:], never))
        final = (steps == t + 1).unsqueeze(1)
        ahead = torch.where(final, torch.where(ends, 0.0, never), ahead)
        after = ahead + at_place[:, t]
        beta[:, t] = after
    return beta


def as_tuple(lengths: Lengths) -> tuple[int, ...]:
    """Lengths as numbers of the host, where the loops run."""
    if isinstance(lengths, Tensor):
        lengths = lengths.flatten().tolist()
    return tuple(lengths)


@under_autocast("float32", devices=("cpu",))
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """CTC with its gradient by hand; as ``torch.nn.functional.ctc_loss``.

    Args:
        log_probs: (T, N, C) or (T, C), log-probabilities
        targets: integers, not ``blank``: (N, S), or one after the other (sum of their lengths,)
        input_lengths: (N,), how many of the T steps count
        target_lengths: (N,), how many labels there are
        blank: the class that stands for no label
        reduction: "none", "mean" (each loss first divided by its number of labels) or "sum"
        zero_infinity: 0 in place of an infinite loss, and of its gradient

    Returns:
        A number, or (N,) with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes, lengths and labels that do not fit.
    """
    single = log_probs.dim() == 2
    x = unsqueeze(log_probs, 1) if single else log_probs
    labels = targets.unsqueeze(0) if single and targets.dim() == 1 else targets
    steps, lengths = as_tuple(input_lengths), as_tuple(target_lengths)
    y = CTCLossFunction.apply(x, labels, steps, lengths, blank, reduction, zero_infinity)[0]
    return squeeze(y, 0) if single and reduction == "none" else y


class CTCLoss(torch.nn.CTCLoss):
    """``torch.nn.CTCLoss`` whose gradient is :class:`CTCLossFunction`'s."""

    def forward(
        self,
        log_probs: Tensor,
        targets: Tensor,
        input_lengths: Lengths,
        target_lengths: Lengths,
    ) -> Tensor:
        """Map log-probabilities (T, N, C) and labels to the loss."""
        return ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            self.blank,
            self.reduction,
            self.zero_infinity,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    # Not smooth: torch's gradient is the derivative behind a log_softmax alone. Lengths and labels
    # by name, so that they count as constants.
    x = draw(9, 3, 5).detach().log_softmax(2)
    label = torch.tensor([[1, 1, 2], [4, 1, 3], [3, 2, 2]], device=draw.device)
    some: dict[str, Any] = {"targets": label, "input_lengths": (9, 6, 8)}
    each: dict[str, Any] = {**some, "target_lengths": (3, 2, 0)}
    one: dict[str, Any] = {"targets": label[0], "input_lengths": (9,), "target_lengths": (3,)}
    short: dict[str, Any] = {
        "targets": label,
        "input_lengths": (9, 2, 3),
        "target_lengths": (3,) * 3,
    }
    joined: dict[str, Any] = {"targets": label.flatten()[:5], "input_lengths": (9, 6, 8)}

    def fresh() -> Tensor:
        return x.clone().requires_grad_()

    yield sample(fresh(), **each, smooth=False)
    yield sample(fresh(), **each, reduction="none", smooth=False, label="none")
    yield sample(fresh(), **each, reduction="sum", blank=0, smooth=False, label="sum")
    yield sample(fresh(), **joined, target_lengths=(3, 2, 0), smooth=False, label="joined")
    yield sample(fresh(), **short, zero_infinity=True, smooth=False, label="zero_infinity")
    single = x[:, 0].clone().requires_grad_()
    yield sample(single, **one, reduction="none", smooth=False, label="unbatched")


def _refused(draw: Draw) -> Iterator[Sample]:
    label = draw.integers(4, 2, 3) + 1
    yield sample(draw(9, 2, 5), label, (9, 10), (3, 3), label="too many steps")
    yield sample(draw(9, 2, 5), label, (9, 9), (3,), label="lengths differ")
    yield sample(draw(9, 2, 5), label, (9, 9), (3, 3), 7, label="blank")


def _modules(draw: Draw) -> Iterator[Sample]:
    x = draw(9, 2, 5).detach().log_softmax(2).requires_grad_()
    lengths = torch.tensor([9, 7]), torch.tensor([3, 2])
    yield sample((x, draw.integers(4, 2, 3) + 1, *lengths))
    yield sample((x, draw.integers(4, 2, 3), *lengths), blank=4, zero_infinity=True)


def _bench(draw: Draw) -> Iterator[Sample]:
    for steps, examples, classes, labels in ((50, 16, 20, 10), (200, 32, 64, 40)):
        x = draw(steps, examples, classes).detach().log_softmax(2).requires_grad_()
        label = draw.integers(classes - 1, examples, labels) + 1
        yield sample(x, label, (steps,) * examples, (labels,) * examples)


SPEC = Spec(
    name="ctc_loss",
    formula="L = -log sum over paths of prod_t exp(x_{t, path_t})",
    gradient="dx_tc = dL (exp(x_tc) - sum_{s: l'_s = c} exp(alpha_ts + beta_ts - x_tc + L))",
    manual=ctc_loss,
    native=torch.nn.functional.ctc_loss,
    samples=_samples,
    refused=_refused,
    modules={CTCLoss: _modules},
    bench=_bench,
    second_order=False,
    skip=("sizes", "large", "empty", "extremes"),  # lengths and labels fit one shape alone
    vmap=False,
    compiles=False,  # nor does torch's
)
