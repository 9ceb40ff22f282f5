import pytest
import torch

from lightning_modules.data import Digits, NoisyDigits


def test_some_of_the_labels_are_wrong_and_nothing_else() -> None:
    clean = Digits(validation=400).parts
    truth = {tuple(x.tolist()): int(y) for x, y in zip(*clean.train, strict=True)}
    data = NoisyDigits(samples=150, wrong=0.3, seed=4)
    x, y = data.parts.train
    true = torch.tensor([truth[tuple(image.tolist())] for image in x])
    assert len(x) == len(x.unique(dim=0)) == 150
    assert torch.equal(y != true, data.mislabelled) and int(data.mislabelled.sum()) == 45
    assert 0 <= int(y.min()) and int(y.max()) <= 9
    for part, untouched in zip(data.parts[1:], clean[1:], strict=True):
        assert all(map(torch.equal, part, untouched))


def test_a_seed_draws_the_images_and_the_labels() -> None:
    parts = [NoisyDigits(seed=seed).parts.train for seed in (1, 1, 2)]
    assert all(map(torch.equal, parts[0], parts[1]))
    assert not torch.equal(parts[0].x, parts[2].x)
    labels = [NoisyDigits(wrong=wrong).parts.train for wrong in (0.0, 1.0)]
    assert torch.equal(labels[0].x, labels[1].x)
    assert not (labels[0].y == labels[1].y).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wrong": 1.2}, r"wrong must lie in 0..1, got 1.2"),
        ({"samples": 0}, r"samples must lie in 1..1000, got 0"),
        ({"samples": 1001}, r"samples must lie in 1..1000, got 1001"),
    ],
)
def test_bad_arguments(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _ = NoisyDigits(**arguments).parts  # type: ignore[arg-type]
