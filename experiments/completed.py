"""What every study's findings say, so that no study has to."""

from collections.abc import Sequence
from dataclasses import replace

from experiments import agreement
from experiments.figures import arms
from experiments.study import Findings, Options, Study
from experiments.trial import Result

SHORT = "This is the short form: what only the full one can tell is not decided."


def completed(
    study: Study, options: Options, findings: Findings, results: Sequence[Result]
) -> Findings:
    """The findings of a plan with the agreement of manual and autograd, and the form's warning.

    Args:
        study: The study.
        options: How it was run.
        findings: What its plan returned.
        results: Of all trials.
    """
    sentence, agrees = agreement.verdict(results)
    matched = agreement.pairs(results)
    figures = list(findings.figures)
    if matched and study.arms:
        figures.append(arms.agreement(matched, study.arms))
    return replace(
        findings,
        figures=figures,
        agreement=f"{sentence} {findings.agreement}".strip(),
        agrees=False if findings.agrees is False else agrees,
        warnings=[*([SHORT] if options.fast else []), *findings.warnings],
    )
