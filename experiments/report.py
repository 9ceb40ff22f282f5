"""A study's report: one HTML page that needs nothing beside itself."""

import platform
from html import escape
from pathlib import Path

from experiments.figures import style
from experiments.index import CLASSES
from experiments.page import CSS, HEAD
from experiments.study import Findings, Options, Study, Table
from experiments.trial import replacing, versions


def write(study: Study, options: Options, findings: Findings, place: Path, current: bool) -> Path:
    """Write the report of a study.

    Args:
        study: The study.
        options: How it was run.
        findings: What it found.
        place: The study's folder; the page goes there as ``report.html``.
        current: False when some of the results come from an earlier state of the code.

    Returns:
        The page's path.
    """
    notes = list(findings.warnings)
    if not current:
        notes.append(
            "Some of these results were computed by an earlier state of the code; "
            f"{options.command('run', study.name)} computes them again."
        )
    parts = [
        f"<p class=kicker>manual_bp · study <b>{escape(study.name)}</b></p>",
        f"<h1>{escape(study.question)}</h1>",
        _verdicts(findings),
        _agreement(findings),
        *(f"<p class=note>{escape(note)}</p>" for note in notes),
        *map(_table, findings.tables),
        *(f"<p>{escape(paragraph)}</p>" for paragraph in findings.explanation),
        _figures(findings),
        _set_up(study),
        _origin(study, options, place),
    ]
    page = place / "report.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    head = HEAD.format(title=escape(f"{study.name} | manual_bp"), css=CSS)
    with replacing(page) as part:
        part.write_text(f"{head}<main>{''.join(parts)}</main>\n", encoding="utf-8")
    return page


def _verdicts(findings: Findings) -> str:
    items = "".join(
        f"<li class={CLASSES[verdict.holds]}><b>{verdict.word}</b>"
        f"<div><p class=claim>{escape(verdict.prediction.claim)}</p>"
        f"<p>{escape(verdict.measured)}</p>"
        f"<p class=small>Source: {escape(verdict.prediction.source)}. Refuted if "
        f"{escape(verdict.prediction.refuted_if)}.</p></div></li>"
        for verdict in findings.verdicts
    )
    return f"<ul class=verdicts>{items}</ul>"


def _agreement(findings: Findings) -> str:
    return f'<p class="agreement {CLASSES[findings.agrees]}">{escape(findings.agreement)}</p>'


def _table(table: Table) -> str:
    head = "".join(f"<th scope=col>{escape(column)}</th>" for column in table.columns)
    body = "".join(
        f"<tr><th scope=row>{escape(row[0])}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    note = f"<p class=small>{escape(table.note)}</p>" if table.note else ""
    return (
        f"<h2>{escape(table.title)}</h2><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{note}"
    )


def _figures(findings: Findings) -> str:
    items = "".join(
        f"<figure id={escape(figure.name)}><h3>{escape(figure.title)}</h3>"
        f"{style.svg(figure.draw(), figure.name, figure.title)}"
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        for figure in findings.figures
    )
    return f"<h2>Figures</h2><div class=figures>{items}</div>"


def _set_up(study: Study) -> str:
    groups = (
        ("Scientific (what is asked about)", study.scientific),
        ("Nuisance (tuned, to be fair)", study.nuisance),
        ("Fixed", study.fixed),
        ("Measured", {"metric": study.metric, "seeds": study.seeds}),
    )
    rows = "".join(
        f"<tr class=group><th colspan=2>{escape(title)}</th></tr>"
        + "".join(
            f"<tr><th scope=row>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in entries.items()
        )
        for title, entries in groups
        if entries
    )
    about = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in study.about)
    return f"<h2>Set-up</h2>{about}<div class=scroll><table class=setup>{rows}</table></div>"


def _origin(study: Study, options: Options, place: Path) -> str:
    commands = [
        options.command("run", study.name),
        f"python -m experiments fit --config {place}/trials/TRIAL/config.yaml",
    ]
    if study.watched:
        commands.append(f"tensorboard --logdir {place}/tensorboard")
    found = " · ".join(f"{name} {number}" for name, number in versions().items())
    return (
        "<h2>Made by</h2><p>The study, any one of its trials, and the gradients while they "
        f"flow:</p><pre>{escape(chr(10).join(commands))}</pre>"
        f"<p class=small>Python {platform.python_version()} · {escape(found)}</p>"
    )
