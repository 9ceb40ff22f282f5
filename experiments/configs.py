"""LightningCLI configurations of the trials, as plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.study import Backprop

DIGITS = "scikit-learn's digits: 1200 to train, 200 to validate, 397 to test"
"""What ``lightning_modules.data.Digits`` is, for what a study says of what it holds."""


def item(class_path: str, **init_args: Any) -> dict[str, Any]:
    """A class and its arguments, as LightningCLI writes them."""
    return (
        {"class_path": class_path, "init_args": init_args}
        if init_args
        else {"class_path": class_path}
    )


def optimizer(name: str, backprop: Backprop, **arguments: Any) -> dict[str, Any]:
    """An optimizer by its name in ``torch.optim``, written by hand or torch's own.

    Name every argument that matters: LightningCLI fills in what is left out from a default of the
    module where the names agree.
    """
    home = "torch.optim" if backprop == "autograd" else "manual_bp.optim"
    return item(f"{home}.{name}", **arguments)


def fit(
    *,
    network: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    data: Mapping[str, Any],
    backprop: Backprop,
    seed: int,
    epochs: int,
    evaluate_every: int,
    accelerator: str = "cpu",
    histograms_every: int = 0,
    learner: str = "lightning_modules.Classifier",
    trainer: Mapping[str, Any] | None = None,
    callbacks: Sequence[Mapping[str, Any]] = (),
    **model: Any,
) -> dict[str, Any]:
    """The configuration of one quiet fit in float64 that records itself.

    Args:
        network: Builds the network.
        optimizer: Builds the optimizer.
        data: The data module.
        backprop: Which gradients: "manual", "autograd", or "both" in step.
        seed: Seed of the weights (the order of the batches is the data module's).
        epochs: How long to train.
        evaluate_every: Training steps from one evaluation on the validation part to the next.
        accelerator: Where to train.
        histograms_every: Training steps between two histograms of gradients and activations; norms
            are logged ten times as often, and seed 0 draws the gradient by depth and step; 0 for
            nothing of it.
        learner: The LightningModule; a :class:`lightning_modules.Learner`.
        trainer: Further arguments of the trainer, or other ones (``gradient_clip_val``,
            ``accumulate_grad_batches``, ``max_steps``, ``precision`` ...).
        callbacks: Further callbacks, made by :func:`item`.
        model: Further arguments of the module (``loss``, ``scheduler`` ...).
    """
    record = item("experiments.training.recording.Record", threads=1)
    watchers: list[Mapping[str, Any]] = [record, *callbacks]
    often = max(1, histograms_every // 10)
    if histograms_every:
        watching = "lightning_modules.callbacks"
        watchers += [
            item(f"{watching}.GradientHistograms", every_n_steps=histograms_every),
            item(f"{watching}.GradientNorms", every_n_steps=often),
            item(f"{watching}.Activations", every_n_steps=histograms_every),
            item(f"{watching}.UpdateRatios", every_n_steps=histograms_every),
        ]
    if histograms_every and seed == 0:
        # To draw takes as long as a hundred steps: one seed of an arm, and once, at the end.
        flow = "lightning_modules.callbacks.GradientFlow"
        watchers.append(item(flow, every_n_steps=often, every_n_looks=10**6))
    return {
        "seed_everything": seed,
        "trainer": {
            "accelerator": accelerator,
            "devices": 1,
            "precision": "64-true",
            "deterministic": True,
            "max_epochs": epochs,
            "val_check_interval": evaluate_every,
            "check_val_every_n_epoch": None,  # so that the interval runs on over the epochs
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 5,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": watchers,
            **(trainer or {}),
        },
        "model": item(
            learner,
            network=dict(network),
            optimizer=dict(optimizer),
            backprop=backprop,
            **model,
        ),
        "data": dict(data),
    }
