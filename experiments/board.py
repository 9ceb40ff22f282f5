"""A study's arms side by side in TensorBoard's *Custom Scalars* tab."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from experiments.statistics import interval
from experiments.trial import Array, Result

RUN = "arms"
POINTS = 200


def write(results: Sequence[Result], place: Path) -> None:
    """Write the run ``arms``: the mean of each curve over the seeds of an arm, with its interval.

    Its layout has a chart for each curve, in which every arm is a line with a band, and one chart
    for each arm beneath. Only results with a label ``arm`` that are watched take part. It is
    written anew each time.

    Args:
        results: The results of a study.
        place: The study's folder.
    """
    folder = place / "tensorboard" / RUN
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    arms: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.trial.watch and "arm" in result.trial.labels:
            arms[str(result.trial.labels["arm"])].append(result)
    if not arms:
        return
    names = ["train/loss", *_validation(next(iter(arms.values()))[0])]
    categories, scalars = [], []
    for name in names:
        tags = {}
        for arm, own in arms.items():
            found = _band(own, name)
            if found is not None:
                tags[arm] = [f"{name}/{arm}/{what}" for what in ("mean", "lower", "upper")]
                scalars += [
                    (int(step), tag, float(value))
                    for tag, values in zip(tags[arm], found[1:], strict=True)
                    for step, value in zip(found[0], values, strict=True)
                ]
        categories.append(_category(name, tags))
    writer = EventFileWriter(str(folder))
    layout = layout_pb2.Layout(category=categories).SerializeToString()
    value = Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        tensor=TensorProto(dtype="DT_STRING", string_val=[layout]),
        metadata=metadata.create_summary_metadata(),
    )
    writer.add_event(Event(summary=Summary(value=[value])))
    for step, tag, value in sorted(scalars):
        values = [Summary.Value(tag=tag, simple_value=value)]
        writer.add_event(Event(summary=Summary(value=values), step=step))
    writer.close()


def _validation(result: Result) -> list[str]:
    return sorted(n for n in result.curves if n.startswith("val/") and n != "val/step")


def _band(results: Sequence[Result], name: str) -> tuple[Array, Array, Array, Array] | None:
    """Steps, mean, lower and upper end of the 95 % interval over the seeds."""
    curves = [result.curves[name] for result in results if name in result.curves]
    length = min((len(curve) for curve in curves), default=0)
    if not length:
        return None
    steps = results[0].curves["val/step"][:length] if name != "train/loss" else np.arange(length)
    shown = np.unique(np.linspace(0, length - 1, min(length, POINTS)).astype(int))
    values = np.stack([curve[:length] for curve in curves])[:, shown]
    middle, half = np.array([interval(list(column)) for column in values.T]).T
    half = np.nan_to_num(half)  # one seed has no interval
    return steps[shown], middle, middle - half, middle + half


def _category(name: str, tags: dict[str, list[str]]) -> layout_pb2.Category:
    def margin(title: str, arms: dict[str, list[str]]) -> layout_pb2.Chart:
        series = [
            layout_pb2.MarginChartContent.Series(value=mean, lower=lower, upper=upper)
            for mean, lower, upper in arms.values()
        ]
        return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=series))

    charts = [margin(f"{name}, every arm", tags)]
    charts += [margin(f"{name}, {arm}", {arm: own}) for arm, own in tags.items()]
    return layout_pb2.Category(title=name, chart=charts)
