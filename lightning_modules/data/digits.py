"""scikit-learn's handwritten digits."""

import numpy as np

from lightning_modules.data.in_memory import InMemory, Parts, split


class Digits(InMemory):
    """1,797 handwritten digits of 8x8 pixels, inside scikit-learn (UCI Optdigits, test part).

    397 samples are the test part, ``validation`` of the other 1,400 the validation part; see
    :func:`lightning_modules.data.in_memory.split` for the permutation.

    Args:
        batch_size: Training samples in a batch.
        seed: Seed of the batch order.
        image: Give x as images (N, 1, 8, 8) instead of rows (N, 64).
        validation: Samples of the validation part.
        standardize: Zero mean and unit standard deviation instead of the range 0..1.

    Raises:
        ValueError: An argument is out of range.
        ModuleNotFoundError: scikit-learn is not installed; the message names the command.
    """

    test_samples = 397

    def __init__(
        self,
        batch_size: int = 64,
        seed: int = 0,
        image: bool = False,
        validation: int = 200,
        standardize: bool = False,
    ) -> None:
        super().__init__(batch_size, seed)
        self.save_hyperparameters(logger=False)
        self.image = image
        self.validation = validation
        self.standardize = standardize

    def load(self) -> Parts:
        """Return the three parts."""
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "Digits needs scikit-learn: python -m pip install scikit-learn"
            ) from error
        pixels, labels = load_digits(return_X_y=True)
        x = pixels.reshape((-1, 1, 8, 8) if self.image else (-1, 64)) / 16
        return split(
            x,
            np.asarray(labels),
            validation=self.validation,
            test=self.test_samples,
            standardize=self.standardize,
        )
