"""The lessons, by their names on the command line, in an order to read them in."""

from manual_bp.explain.lesson import Lesson
from manual_bp.explain.lessons import (
    attention,
    batch_norm,
    convolution,
    divergence,
    regression,
    rnn,
    sigmoid_chain,
    softmax,
    three_layers,
    weight,
    xor,
)

__all__ = ["LESSONS"]

LESSONS: dict[str, Lesson] = {
    module.LESSON.name: module.LESSON
    for module in (
        weight,
        three_layers,
        regression,
        softmax,
        xor,
        sigmoid_chain,
        divergence,
        convolution,
        rnn,
        batch_norm,
        attention,
    )
}
