"""A study's arms side by side in TensorBoard's *Custom Scalars* tab."""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from experiments.statistics import interval
from experiments.trial import Result

RUN = "arms"
POINTS = 200
ENDS = ("mean", "lower", "upper")


def write(results: Sequence[Result], place: Path) -> None:
    """Write a run ``arms/<arm>`` for each arm: the mean of each curve over the seeds, as a band.

    A layout goes with them: one chart for each curve, in which every arm is a line of its own
    colour inside its interval. Only results with a label ``arm`` that are watched take part. The
    runs are written anew each time.

    Args:
        results: The results of a study.
        place: The study's folder.
    """
    folder = place / "tensorboard" / RUN
    shutil.rmtree(folder, ignore_errors=True)
    arms: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.trial.watch and "arm" in result.trial.labels:
            arms[str(result.trial.labels["arm"])].append(result)
    curves = sorted({name for own in arms.values() for name in _curves(own[0])})
    for i, (arm, own) in enumerate(arms.items()):
        writer = EventFileWriter(str(folder / arm.replace("/", "-")))
        if i == 0:  # TensorBoard would add up the charts of several
            writer.add_event(Event(summary=Summary(value=[_layout(curves)])))
        for name in curves:
            for step, *band in _band(own, name):
                values = [
                    Summary.Value(tag=f"arms/{name}/{end}", simple_value=value)
                    for end, value in zip(ENDS, band, strict=True)
                ]
                writer.add_event(Event(summary=Summary(value=values), step=int(step)))
        writer.close()


def _curves(result: Result) -> list[str]:
    validation = [n for n in result.curves if n.startswith("val/") and n != "val/step"]
    return [name for name in ("train/loss", *validation) if name in result.curves]


def _band(results: Sequence[Result], name: str) -> Iterator[tuple[float, float, float, float]]:
    """Step, mean, and the ends of the 95 % interval over the seeds; about two hundred points."""
    curves = [result.curves[name] for result in results if name in result.curves]
    length = min((len(curve) for curve in curves), default=0)
    if not length:
        return
    steps = results[0].curves["val/step"] if name.startswith("val/") else np.arange(length)
    for at in np.unique(np.linspace(0, length - 1, min(length, POINTS)).astype(int)):
        middle, half = interval([float(curve[at]) for curve in curves])
        half = 0.0 if np.isnan(half) else half  # one seed has no interval
        yield float(steps[at]), middle, middle - half, middle + half


def _layout(curves: Sequence[str]) -> Summary.Value:
    """A chart for each curve; each run that has its tags is a line in it."""
    charts = []
    for name in curves:
        value, lower, upper = (f"arms/{name}/{end}" for end in ENDS)
        series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
        margin = layout_pb2.MarginChartContent(series=[series])
        charts.append(layout_pb2.Chart(title=f"{name}: mean and 95 % interval", margin=margin))
    category = layout_pb2.Category(title="The arms side by side", chart=charts)
    layout = layout_pb2.Layout(category=[category]).SerializeToString()
    return Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        tensor=TensorProto(dtype="DT_STRING", string_val=[layout]),
        metadata=metadata.create_summary_metadata(),
    )
