"""Gradients by depth: two figures in TensorBoard, whatever the number of layers."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from lightning_modules.callbacks.gradient_callback import (
    GradientCallback,
    Gradients,
    Stage,
    layers_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class GradientFlow(GradientCallback):
    """Show how the gradient runs through the depth of a network, in the *Images* tab.

    - ``gradient_flow/by_depth``: the mean and the largest size of a gradient of each layer, from
      the input at the top to the output at the bottom, at the last step that was looked at. A line
      that leans to the left at its top is a gradient that vanishes on its way back.
    - ``gradient_flow/by_depth_and_step``: the mean size as a colour, a row for each layer, a column
      for each step that was looked at: when it vanished, and where.

    Both are seen as the backward pass left them, before clipping. Layers are in the order in which
    the module lists them. What is zero or not finite is left out, and the title says so.

    Args:
        every_n_steps: Steps 0, n, 2n, ... are looked at.
        every_n_looks: The figures are drawn after so many looks, and at the end.

    Raises:
        ValueError: An argument is not positive.
    """

    def __init__(self, every_n_steps: int = 50, every_n_looks: int = 20) -> None:
        super().__init__(every_n_steps)
        if every_n_looks < 1:
            raise ValueError(f"every_n_looks must be positive, got {every_n_looks}")
        self.every_n_looks = every_n_looks
        self.layers: tuple[str, ...] = ()
        self.steps: list[int] = []
        self.means: list[list[float]] = []
        self.largest: list[float] = []
        self._drawn = 0

    def loggers(self, trainer: pl.Trainer) -> list[TensorBoardLogger]:
        """Return the TensorBoard loggers: the others show no figures."""
        return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]

    def log_gradients(
        self, loggers: list[Any], gradients: Gradients, stage: Stage, step: int
    ) -> None:
        """Take down the size of each layer's gradient; draw now and then."""
        if stage == "after_clipping" and self.steps[-1:] == [step]:
            return
        owners = layers_of(tuple(gradients))
        layers = tuple(dict.fromkeys(owners))
        if layers != self.layers:  # frozen or thawed meanwhile: another set of rows
            self.layers, self.steps, self.means = layers, [], []
        sums, counts, tops = (
            dict.fromkeys(layers, 0.0),
            dict.fromkeys(layers, 0),
            dict.fromkeys(layers, 0.0),
        )
        sizes = [
            (g.abs().sum(dtype=torch.float64), g.abs().amax().double()) for g in gradients.values()
        ]
        flat = torch.stack([number for pair in sizes for number in pair]).tolist()
        for owner, gradient, total, top in zip(
            owners, gradients.values(), flat[::2], flat[1::2], strict=True
        ):
            sums[owner] += total
            counts[owner] += gradient.numel()
            tops[owner] = max(tops[owner], top)
        self.steps.append(step)
        self.means.append([sums[layer] / counts[layer] for layer in layers])
        self.largest = [tops[layer] for layer in layers]
        if len(self.steps) % self.every_n_looks == 0:
            self._draw(loggers)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw all of it."""
        if self.steps and trainer.is_global_zero and self._drawn != len(self.steps):
            self._draw(self.loggers(trainer))

    def state_dict(self) -> dict[str, Any]:
        """Return what was taken down."""
        return {
            "layers": list(self.layers),
            "steps": list(self.steps),
            "means": [list(row) for row in self.means],
            "largest": list(self.largest),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.layers = tuple(state_dict["layers"])
        self.steps, self.means = state_dict["steps"], state_dict["means"]
        self.largest = state_dict["largest"]

    def _draw(self, loggers: list[TensorBoardLogger]) -> None:
        self._drawn = len(self.steps)
        for logger in loggers:
            writer, step = logger.experiment, self.steps[-1]
            writer.add_figure("gradient_flow/by_depth", self.by_depth(), step)
            if len(self.steps) > 1:
                writer.add_figure("gradient_flow/by_depth_and_step", self.heatmap(), step)

    def by_depth(self) -> "Figure":
        """The size of each layer's gradient at the last step, from input to output."""
        figure, axes = _panel(len(self.layers))
        depth = np.arange(len(self.layers))
        mean, largest = np.array(self.means[-1]), np.array(self.largest)
        for values, label, colour in (
            (largest, "largest", "#e08a00"),
            (mean, "mean", "#2f7fc1"),
        ):
            shown = np.where(np.isfinite(values) & (values > 0), values, np.nan)
            axes.plot(shown, depth, "o-", color=colour, label=label, markersize=4)
        axes.set(xscale="log", xlabel="size of the gradient, |dL/dw|", ylabel="layer")
        drawn = np.isfinite(mean) & (mean > 0)
        missing = "" if drawn.all() else " (no point: zero or not finite)"
        axes.set_title(f"Gradient by depth, step {self.steps[-1]}{missing}")
        _name_rows(axes, self.layers)
        axes.grid(alpha=0.2)
        axes.legend(frameon=False)
        return figure

    def heatmap(self) -> "Figure":
        """The mean size of each layer's gradient, by depth and step."""
        from matplotlib.colors import LogNorm

        figure, axes = _panel(len(self.layers))
        values = np.array(self.means).T
        shown = np.ma.masked_where(~np.isfinite(values) | (values <= 0), values)
        edges = np.append(self.steps, 2 * self.steps[-1] - self.steps[-2])
        low, high = (shown.min(), shown.max()) if shown.count() else (0.1, 1.0)
        # A range of its own where all are the same, and of at most sixteen decades.
        norm = LogNorm(max(low, high * 1e-16), high if high > low else low * 10)
        image = axes.pcolormesh(
            edges, np.arange(len(self.layers) + 1) - 0.5, shown, norm=norm, cmap="viridis"
        )
        axes.set(xlabel="training step", ylabel="layer")
        white = " (white: zero or not finite)" if shown.count() < shown.size else ""
        axes.set_title(f"Mean size of the gradient by depth and step{white}")
        _name_rows(axes, self.layers)
        figure.colorbar(image, ax=axes, label="mean |dL/dw|")
        return figure


def _panel(rows: int) -> "tuple[Figure, Any]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, min(12.0, 2.2 + 0.28 * rows)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _name_rows(axes: Any, layers: tuple[str, ...]) -> None:
    """The input at the top; of a hundred layers, about thirty are named."""
    every = -(-len(layers) // 34)
    axes.set_yticks(range(0, len(layers), every), layers[::every], fontsize=8)
    axes.set_ylim(len(layers) - 0.5, -0.5)
