import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import configs
from experiments.training.errors import cause


def config(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    found = configs.fit(
        network=configs.item("lightning_modules.networks.MLP", hidden=[8]),
        optimizer=configs.optimizer("SGD", "manual", lr=0.1),
        data=configs.item("lightning_modules.data.Digits"),
        backprop="manual",
        seed=1,
        epochs=1,
        evaluate_every=5,
    )
    found["trainer"]["logger"] = False
    change(found)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(found), encoding="utf-8")
    return path


def as_it_is(found: dict[str, Any]) -> None:
    pass


def model(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda found: found["model"]["init_args"].update(changes)


def misspell_data(found: dict[str, Any]) -> None:
    found["data"]["class_path"] = "lightning_modules.data.Digitz"


CHARACTERS = "lightning_modules.data.Characters"
REFUSED: dict[str, tuple[Callable[[dict[str, Any]], None], list[str], str]] = {
    "abbreviated": (as_it_is, ["--trainer.max_epoch", "3"], "did you mean '--trainer.max_epochs'?"),
    "not a number": (as_it_is, ["--trainer.max_epochs", "x"], "is 'x'; expected int"),
    "choice": (model(backprop="hand"), [], "model.backprop is 'hand'; expected 'manual' or"),
    "class": (misspell_data, [], "did you mean 'Digits'?"),
    "value": (
        model(network=configs.item("lightning_modules.networks.MLP", hidden=[0])),
        [],
        "must be positive",
    ),
    "layer": (
        model(network=configs.item("lightning_modules.networks.MLP", activation="RELU")),
        [],
        "did you mean 'ReLU'?",
    ),
    "file": (
        lambda found: found.update(data=configs.item(CHARACTERS, file="/no/such/text")),
        [],
        "No such file or directory: '/no/such/text'",
    ),
    "short text": (
        lambda found: found.update(data=configs.item(CHARACTERS, characters=90, context=9)),
        [],
        "context must be shorter than each part",
    ),
    "rate": (model(optimizer=configs.optimizer("SGD", "manual", lr="fast")), [], "lr is 'fast'"),
}


def fit(*words: object, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "experiments", "fit", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


@pytest.mark.parametrize("case", REFUSED)
def test_fit_refuses_in_one_sentence(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments import cli

    change, words, sentence = REFUSED[case]
    assert cli.main(["fit", "--config", str(config(tmp_path, change)), *words]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("experiments: fit: ") and sentence in err[-1]
    assert not any("usage:" in line or "Traceback" in line for line in err)


def test_fit_refuses_a_file_that_is_not_there_or_is_not_yaml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments import cli

    assert cli.main(["fit", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "File does not exist" in capsys.readouterr().err
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [", encoding="utf-8")
    assert cli.main(["fit", "--config", str(broken)]) == 2
    assert "Problems parsing config" in capsys.readouterr().err


def test_help_shows_the_command_as_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    from experiments import cli

    with pytest.raises(SystemExit):
        cli.main(["fit", "--help"])
    assert capsys.readouterr().out.startswith("usage: python -m experiments fit ")


def test_fit_is_lightning_cli(tmp_path: Path) -> None:
    path = config(tmp_path)
    printed = fit("--config", path, "--print_config", folder=tmp_path)
    assert printed.returncode == 0
    assert yaml.safe_load(printed.stdout)["trainer"]["precision"] == "64-true"

    logger = "--trainer.logger=pytorch_lightning.loggers.CSVLogger"
    place = f"--trainer.logger.save_dir={tmp_path}/csv"
    ended = fit("--config", path, logger, place, "--seed_everything", 5, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "test/accuracy" in ended.stdout
    saved = next((tmp_path / "csv").rglob("config.yaml"))
    assert yaml.safe_load(saved.read_text(encoding="utf-8"))["seed_everything"] == 5
    assert {p.name for p in tmp_path.iterdir()} == {"config.yaml", "csv"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            'Parser key "trainer.max_epochs":\n  Does not validate against any of the Union '
            "subtypes\n  Subtypes: [<class 'int'>, <class 'NoneType'>]\n  Errors:\n    - Expected "
            "a <class 'int'>\n    - Expected a <class 'NoneType'>\n  Given value type: <class "
            "'str'>\n  Given value: abc",
            "trainer.max_epochs is 'abc'; expected int",
        ),
        ("something else went wrong\nand more", "something else went wrong"),
        ("", ""),
    ],
)
def test_cause(message: str, expected: str) -> None:
    assert cause(message) == expected
