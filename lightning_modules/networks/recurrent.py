"""A recurrent network that reads a sequence and answers."""

import math
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from lightning_modules.networks.namespace import Namespace, layer

Kind = Literal["RNN", "GRU", "LSTM"]
State: TypeAlias = tuple[Tensor, ...]
"""What is handed on from step to step: (h,), for an LSTM (h, c); each (1, N, H)."""


class Recurrent(torch.nn.Module):
    """A recurrent layer over whole sequences, and a linear read-out.

    Backpropagation through time goes back from the end to the first step. Truncated to pieces of
    ``k`` steps, counted from the end, it stops where a piece begins: the state that the piece
    starts from is taken for a constant. The output does not change by that, only the gradient,
    which keeps what the last ``k`` steps (or fewer, for an output inside a piece) contribute.

    Williams & Peng (1990), "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent
    Network Trajectories".

    Args:
        nn: Where the layers come from: ``torch.nn`` or ``manual_bp.nn``.
        kind: "RNN", "GRU" or "LSTM".
        in_features: Numbers at one step; inputs are (N, T, in_features).
        hidden: Width H of the state.
        out_features: Numbers in one answer.
        every_step: Answer at every step, (N, T, out_features), instead of at the end only,
            (N, out_features).
        nonlinearity: Of the RNN: "tanh" or "relu".
        radius: Spectral radius of the RNN's recurrent matrix at the start, drawn from N(0, 1) and
            scaled to it; None for torch's own start.
        forget_bias: What is added to the bias of the LSTM's forget gate at the start. At 0 a state
            is halved at every step, which few gradients survive (Gers et al. 2000, "Learning to
            Forget"; Jozefowicz et al. 2015).

    Raises:
        ValueError: A width is not positive, a name is unknown, the radius is negative or not
            finite, or it or a forget bias is given to a kind that has none.
    """

    def __init__(
        self,
        nn: Namespace,
        kind: Kind = "LSTM",
        in_features: int = 2,
        hidden: int = 32,
        out_features: int = 1,
        every_step: bool = False,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        radius: float | None = None,
        forget_bias: float = 0.0,
    ) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f'kind must be "RNN", "GRU" or "LSTM", got {kind!r}')
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f'nonlinearity must be "tanh" or "relu", got {nonlinearity!r}')
        if min(in_features, hidden, out_features) < 1:
            raise ValueError(
                "in_features, hidden and out_features must be positive, "
                f"got {in_features}, {hidden} and {out_features}"
            )
        if radius is not None and not (kind == "RNN" and math.isfinite(radius) and radius >= 0):
            raise ValueError(f"radius must be a number >= 0 for an RNN, got {radius} for {kind}")
        if forget_bias and kind != "LSTM":
            raise ValueError(f"forget_bias is the LSTM's, got {forget_bias} for {kind}")
        super().__init__()
        options: dict[str, Any] = {"nonlinearity": nonlinearity} if kind == "RNN" else {}
        self.every_step = every_step
        self.recurrent = layer(nn, kind)(in_features, hidden, batch_first=True, **options)
        self.output = nn.Linear(hidden, out_features)
        with torch.no_grad():
            if radius is not None:
                _scale(self.recurrent.get_parameter("weight_hh_l0"), radius)
            if forget_bias:  # torch's order of the gates is input, forget, cell, output
                self.recurrent.get_parameter("bias_hh_l0")[hidden : 2 * hidden] += forget_bias

    def forward(self, x: Tensor, truncate: int | None = None) -> Tensor:
        """Answer sequences x, (N, T, in_features).

        Args:
            x: The sequences.
            truncate: The steps that a gradient goes back, at most; None for all.

        Raises:
            ValueError: ``truncate`` is not positive, or x has another shape or no steps.
        """
        if x.dim() != 3 or not x.shape[1]:
            raise ValueError(
                f"x must be sequences (N, T, in_features) of one step or more, got {tuple(x.shape)}"
            )
        if truncate is not None and truncate < 1:
            raise ValueError(f"truncate must be positive, got {truncate}")
        steps = x.shape[1]
        starts = range(steps % truncate, steps, truncate) if truncate else range(0)
        edges = sorted({0, *starts, steps})
        state, pieces = None, []
        for start, end in pairwise(edges):
            y, state = self.advance(x[:, start:end], state and tuple(s.detach() for s in state))
            pieces.append(y)
        if not self.every_step:
            return self.output(pieces[-1][:, -1])
        return self.output(pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1))

    def advance(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Take the steps of x, (N, T, in_features), from a state, None for zeros.

        Returns:
            The recurrent layer's outputs (N, T, H), and the state after the last step.
        """
        if isinstance(self.recurrent, torch.nn.LSTM):
            return self.recurrent(x, state)
        y, h = self.recurrent(x, state and state[0])
        return y, (h,)

    def unrolled(self, x: Tensor) -> tuple[Tensor, list[State]]:
        """Answer at the end of x, (N, T, in_features), and keep the states on the way.

        One step at a time, so that the gradient can be asked for at each state.

        Returns:
            The answer (N, out_features), and the T + 1 states, the first one of zeros.
        """
        zeros = x.new_zeros(1, len(x), self.output.in_features)
        parts = 2 if isinstance(self.recurrent, torch.nn.LSTM) else 1
        states: list[State] = [tuple(zeros.clone().requires_grad_() for _ in range(parts))]
        for t in range(x.shape[1]):
            states.append(self.advance(x[:, t : t + 1], states[-1])[1])
        return self.output(states[-1][0][0]), states


def _scale(weight: Tensor, radius: float) -> None:
    """Draw a square matrix from N(0, 1) and scale it to a spectral radius, in place."""
    torch.nn.init.normal_(weight)
    weight.mul_(radius / float(torch.linalg.eigvals(weight.double()).abs().max()))
