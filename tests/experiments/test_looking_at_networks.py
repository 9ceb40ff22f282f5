"""What the studies' callbacks measure on a network, without a training around it."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import manual_bp.optim
from experiments.training.error_paths import ErrorPaths
from experiments.training.generalization import Generalization
from experiments.training.shifted import Shifted, moved
from lightning_modules import Classifier
from lightning_modules.data import Digits, NoisyDigits
from lightning_modules.networks import MLP, ConvNet


def classifier(network: Any) -> Classifier:
    torch.manual_seed(0)
    return Classifier(network, optimizer=partial(manual_bp.optim.SGD, lr=0.1)).double()


def followed(module: Classifier) -> dict[str, list[float]]:
    paths = ErrorPaths()
    batch = torch.randn(3, 1, 12, 12).double(), torch.tensor([0, 1, 2])
    trainer: Any = SimpleNamespace(global_step=0)
    paths.on_train_batch_start(trainer, module, batch, 0)
    assert all(p.grad is None for p in module.parameters())
    again = ErrorPaths()
    again.load_state_dict(paths.state_dict())
    assert again.curves() == paths.curves()
    return paths.curves()


def test_an_error_is_followed_back_to_the_filters_and_the_pixels() -> None:
    module = classifier(partial(ConvNet, size=(12, 12), channels=(2, 3), kernel_size=3))
    torch.nn.init.constant_(module.network.get_parameter("conv1.bias"), 9.0)  # all are on
    with torch.no_grad():  # the second is off
        module.network.get_parameter("conv2.bias").copy_(torch.tensor([99.0, -99, 99]))
    found = followed(module)
    assert found["reached/conv1"] == [1, 1, 1]
    assert found["reached/conv2"] == pytest.approx([2 / 3] * 3)
    spread = torch.tensor(found["spread/image"]).view(12, 12).nonzero()
    # In the middle of 3x3 positions: 3x3 of layer 1, and 3 + 2 * (3 - 1) pixels.
    assert (spread.amin(0).tolist(), spread.amax(0).tolist()) == ([1, 1], [7, 7])
    assert sum(x > 0 for x in found["spread/conv1"]) == 9
    assert max(found["sharing"]) < 1e-14
    assert len(found["error/conv1"]) == len(found["shares"]) == 36 and len(found["image"]) == 144


def test_shared_gradients_that_are_no_sums_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    unshared = ConvNet.unshared

    def wrong(self: ConvNet, nn: Any) -> ConvNet:
        twin = unshared(self, nn)
        with torch.no_grad():
            twin.get_parameter("conv1.weight")[7] += 0.1
        return twin

    monkeypatch.setattr(ConvNet, "unshared", wrong)
    network = partial(ConvNet, size=(12, 12), channels=(2, 3), kernel_size=3)
    assert max(followed(classifier(network))["sharing"]) > 1e-6


def test_units_of_a_dense_layer_that_are_off_are_not_reached() -> None:
    module = classifier(partial(MLP, in_features=144, hidden=(4,)))
    with torch.no_grad():
        module.network.get_parameter("linear1.bias").copy_(torch.tensor([99.0, 99, 99, -99]))
    assert followed(module) == {"reached/linear1": [0.75] * 3}


def test_images_are_moved_and_what_comes_in_is_empty() -> None:
    x = torch.arange(1.0, 13).view(1, 3, 4)
    assert torch.equal(moved(x, 0, 0), x)
    assert moved(x, 1, 0)[0].tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert moved(x, 0, -2)[0].tolist() == [[3, 4, 0, 0], [7, 8, 0, 0], [11, 12, 0, 0]]


def test_moved_images_are_classified_after_the_training() -> None:
    data, shifted = Digits(image=True), Shifted(pixels=2)
    module = classifier(MLP)
    trainer: Any = SimpleNamespace(datamodule=data, sanity_checking=False)
    shifted.on_train_end(trainer, module)
    x, y = data.parts.test
    with torch.no_grad():
        hits = [
            (module(moved(x.double(), *way)).argmax(1) == y).double().mean()
            for way in ((2, 0), (-2, 0), (0, 2), (0, -2))
        ]
    accuracies = shifted.curves()["shifted/accuracy"]
    assert len(accuracies) == 3 and module.training
    assert accuracies[2] == pytest.approx(float(torch.stack(hits).mean()))
    with pytest.raises(ValueError, match=r"pixels must not be negative, got -1"):
        Shifted(-1)


def test_seen_and_unseen_images_are_told_apart() -> None:
    data, watch = NoisyDigits(samples=50, wrong=0.4), Generalization()
    module = classifier(partial(MLP, dropout=0.5)).eval()
    trainer: Any = SimpleNamespace(datamodule=data, sanity_checking=False)
    watch.on_validation_end(trainer, module)
    found = {name: value for name, (value,) in watch.curves().items()}
    with torch.no_grad():
        train, _, test = data.parts
        seen, unseen = module(train.x.double()), module(test.x.double())
        assert found["seen/loss"] == pytest.approx(float(cross_entropy(seen[20:], train.y[20:])))
        assert found["unseen/loss"] == pytest.approx(float(cross_entropy(unseen, test.y)))
        fooled = (seen[:20].argmax(1) == train.y[:20]).double().mean()
        assert found["memorised"] == pytest.approx(float(fooled))
    again = Generalization()
    again.load_state_dict(watch.state_dict())
    assert again.curves() == watch.curves()
