"""A small study in a process of its own, to be killed: ``python disturbed.py LOGS EXECUTOR JOBS``.

Its second trial comes to grief at a step in the middle, once, in the way that the environment
variable DISTURB names: "kill" ends its process, "hang" waits for the test to end something else.
It prints every number that its trials ended with, save the clocks.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from experiments import configs, engine
from experiments.study import Findings, Options, Plan, Study
from experiments.training import fit
from experiments.trial import Outcome, Result, Trial

STEP = 8


class Disturb(pl.Callback):
    """Takes down each step, and stops at the one in the middle."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        folder = Path(os.environ["DISTURB_AT"])
        seed = trainer.datamodule.seed  # type: ignore[attr-defined]
        with (folder / f"steps{seed}").open("a") as file:
            file.write(f"{trainer.global_step} ")
        mark = folder / "stopped"
        if seed != 1 or trainer.global_step != STEP or mark.exists():
            return
        if os.environ.get("DISTURB"):
            mark.touch()
        if os.environ.get("DISTURB") == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while os.environ.get("DISTURB") == "hang":
            time.sleep(0.1)


def train(config: Path, checkpoint: Path) -> Outcome:
    """As always, but saved after every step."""
    return fit.train(config, checkpoint, every_seconds=0)


def trial(seed: int, options: Options) -> Trial:
    config = configs.fit(
        network=configs.item("lightning_modules.networks.MLP", hidden=[8, 8], dropout=0.2),
        optimizer=configs.optimizer("Adam", options.backprop, lr=0.01),
        data=configs.item("lightning_modules.data.Digits", batch_size=200, seed=seed),
        backprop=options.backprop,
        seed=seed,
        epochs=3,
        evaluate_every=4,
        histograms_every=5,
        trainer={"gradient_clip_val": 1.0},
        callbacks=[configs.item("disturbed.Disturb")],
    )
    return Trial(f"seed{seed}", {"arm": "a"}, config, f"a/seed{seed}", "disturbed:train")


def digest(result: Result) -> str:
    record = json.loads((result.folder / "result.json").read_text())
    told = {name: record[name] for name in ("metrics", "compared", "all_by_hand", "warnings")}
    told["curves"] = {n: c for n, c in record["curves"].items() if not n.startswith("clock/")}
    told["weights"] = {n: w.tolist() for n, w in result.weights("autograd").items()}
    text = json.dumps(told, sort_keys=True)
    return f"{result.trial.name} {len(text)} {hashlib.sha256(text.encode()).hexdigest()}"


def plan(options: Options) -> Plan:
    first: list[Result] = yield [trial(seed, options) for seed in (0, 1)]
    second: list[Result] = yield [trial(2, options)]
    for result in [*first, *second]:
        print(digest(result))
    return Findings((), (), ())


def main(logs: str, executor: Any, jobs: str) -> int:
    study = Study("disturbed", "?", (), {}, {}, {}, "", "", plan)
    options = Options(logs=Path(logs), executor=executor, jobs=int(jobs))
    try:
        findings, ran = engine.run(study, options, Console(stderr=True))
        print(findings.agreement)
    except engine.Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return 130
    print(f"ran {ran}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
