import hashlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

import manual_bp
from lightning_modules import LanguageModel
from lightning_modules.callbacks import InStep, Trajectory
from lightning_modules.data import Characters
from lightning_modules.data.characters import ALPHABET, OTHER, decode, encode
from lightning_modules.networks import GPT

MakeTrainer = Callable[..., pl.Trainer]
TINY = partial(GPT, tokens=len(ALPHABET), context=8, width=8, heads=2, blocks=1)


def test_a_text_is_encoded_and_decoded() -> None:
    assert decode(encode(ALPHABET)) == ALPHABET
    assert encode(ALPHABET).tolist() == list(range(97))
    assert decode(encode("a\tb\x7fcé€🎉\n")) == f"a{OTHER}b{OTHER}c{OTHER * 3}\n"
    assert encode("").shape == (0,)


def test_the_parts_follow_each_other_in_the_text(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("".join(chr(32 + i % 90) for i in range(1000)), encoding="utf-8")
    data = Characters(context=7, file=file)
    assert [len(part) for part in data.tokens] == [800, 100, 100]
    assert decode(torch.cat(data.tokens)) == data.text
    assert [tuple(part.x.shape) for part in data.parts] == [(114, 7), (14, 7), (14, 7)]
    for part, tokens in zip(data.parts, data.tokens, strict=True):
        windows = part.x.flatten()
        assert torch.equal(windows, tokens[: len(windows)])
        assert torch.equal(part.y.flatten(), tokens[1 : len(windows) + 1])
    assert Characters(context=7, file=file, characters=500).text == data.text[:500]


def test_the_text_that_python_brings() -> None:
    data = Characters()
    said = data.described()
    assert said["text/characters"][0] == len(data.text) > 300_000
    assert said["text/symbols"][0] == len(set(data.text)) > 90
    assert bytes(map(int, said["text/digest"])) == hashlib.sha256(data.text.encode()).digest()
    assert data.text.startswith('The "assert" statement\n')
    others = data.text.translate(dict.fromkeys(map(ord, ALPHABET)))
    assert len(others) < 0.01 * len(data.text)  # few characters are one of the others


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context": 0}, "context must be positive, got 0"),
        ({"characters": -3}, "characters must be positive, got -3"),
        ({"characters": 300, "context": 30}, "the shortest has 30 characters, got 30"),
    ],
)
def test_windows_that_cannot_be_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Characters(**arguments).setup()  # type: ignore[arg-type]


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("é".encode("latin-1") * 999)
    with pytest.raises(ValueError, match=r"file must be a text in UTF-8, got .*latin: .* 0xe9"):
        Characters(file=tmp_path / "latin").setup()
    with pytest.raises(FileNotFoundError):
        Characters(file=str(tmp_path / "none")).setup()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_it_trains_by_hand_in_step_with_autograd(trainer: MakeTrainer, norm: str) -> None:
    module = LanguageModel(
        partial(TINY, norm=norm, dropout=0.1),
        optimizer=partial(torch.optim.Adam, lr=0.01),
        backprop="both",
    )
    path = Trajectory()
    run = trainer(precision="64-true", callbacks=[path], max_epochs=2)
    run.fit(module, Characters(batch_size=64, context=8, characters=10_000))
    assert module.audit is not None and module.audit.all_by_hand
    (in_step,) = (c for c in run.callbacks if isinstance(c, InStep))  # type: ignore[attr-defined]
    assert in_step.parted is None
    assert max(in_step.comparison.gradients) < 1e-10  # type: ignore[union-attr]
    assert path.losses[0] == pytest.approx(math.log(len(ALPHABET)), rel=0.05)
    assert path.losses[-1] < path.losses[0] - 0.5


def test_the_loss_is_the_mean_over_all_places_and_bits_are_the_same_in_bits(
    trainer: MakeTrainer,
) -> None:
    module = LanguageModel(TINY, optimizer=partial(torch.optim.SGD, lr=0.1), backprop="autograd")
    data = Characters(batch_size=64, context=8, characters=10_000)
    (found,) = trainer().test(module, data, verbose=False)
    x, y = data.parts.test
    with torch.no_grad():
        logits = module.network(x)
    expected = -logits.log_softmax(-1).gather(-1, y.unsqueeze(-1)).mean()
    assert found["test/loss"] == pytest.approx(float(expected), rel=1e-6)
    assert found["test/bits"] == pytest.approx(float(expected) / math.log(2), rel=1e-6)


def test_post_norm_has_the_published_form() -> None:
    torch.manual_seed(0)
    model = TINY(torch.nn, norm="post").double()
    block: Any = model.blocks[0]
    x = torch.randn(2, 8, 8, dtype=torch.float64)
    one = block.norm1(x + block.attention(x))
    torch.testing.assert_close(block(x), block.norm2(one + block.mlp(one)))
    assert isinstance(model.norm, torch.nn.Identity)
    assert set(model.state_dict()) < set(TINY(torch.nn).state_dict())


def test_an_initialization_is_drawn_for_the_linear_layers() -> None:
    model = TINY(torch.nn, initialization=0.5)
    block: Any = model.blocks[0]
    assert float(block.mlp.down.weight.detach().std()) == pytest.approx(0.5, rel=0.2)
    assert float(model.token.weight.detach().std()) == pytest.approx(0.02, rel=0.2)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match='norm must be "pre" or "post", got \'middle\''):
        TINY(manual_bp.nn, norm="middle")  # type: ignore[arg-type]
