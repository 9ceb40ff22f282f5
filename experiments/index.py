"""The index of all studies: one HTML page that needs nothing beside itself."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from experiments import catalog
from experiments.figures import style
from experiments.page import CSS, HEAD
from experiments.study import Ended, Options
from experiments.trial import replacing, versions

CLASSES = {True: "holds", False: "fails", None: "open"}

_CSS = """
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr));
  gap: 1.4rem; }
.card { background: var(--card); border-radius: 8px; padding: 1.1rem 1.2rem; min-width: 0; }
.card h2 { margin: 0 0 .6rem; font-size: 1.08rem; line-height: 1.35; }
.card a { color: inherit; text-decoration-color: var(--dim); text-underline-offset: .2em; }
.card ul { list-style: none; margin: .6rem 0 0; padding: 0; font-size: .92rem; }
.card li { margin: .3rem 0; } .card li b { color: var(--tone); }
.card figure { margin-top: .9rem; }
"""


def write(ended: Sequence[Ended], options: Options) -> Path:
    """Write the index.

    Args:
        ended: What became of each study.
        options: How they were run.

    Returns:
        The page's path, ``index.html`` in the folder of the logs (``index-fast.html`` for the short
        form).
    """
    verdicts = [v for one in ended if one.findings for v in one.findings.verdicts]
    held = sum(verdict.holds is True for verdict in verdicts)
    refuted = sum(verdict.holds is False for verdict in verdicts)
    command = options.command("run", "all")
    found = " · ".join(f"{name} {number}" for name, number in versions().items())
    parts = [
        "<p class=kicker>manual_bp</p>",
        "<h1>The textbook, run: each claim with its number and its verdict</h1>",
        f"<p>Of {len(verdicts)} predictions, each with what would refute it, {held} hold, "
        f"{refuted} do not reproduce and {len(verdicts) - held - refuted} are not decided by these "
        "runs. Every training ran by hand and by autograd, unless a page says otherwise; each page "
        "tells how its thresholds were set.</p>",
        f"<div class=cards>{''.join(_card(one, options) for one in ended)}</div>",
        f"<h2>Made by</h2><pre>{escape(command)}</pre><p class=small>{escape(found)}</p>",
    ]
    page = options.logs / ("index-fast.html" if options.fast else "index.html")
    head = HEAD.format(title="Studies | manual_bp", css=CSS + _CSS)
    with replacing(page) as part:
        part.write_text(f"{head}<main>{''.join(parts)}</main>\n", encoding="utf-8")
    return page


def _card(one: Ended, options: Options) -> str:
    question = escape(catalog.question(one.name))
    kicker = f"<p class=kicker>{escape(one.name)}</p>"
    if one.findings is None or one.page is None:
        return (
            f"<section class=card>{kicker}<h2>{question}</h2>"
            f"<p class=note>{escape(one.reason)}</p></section>"
        )
    items = "".join(
        f"<li class={CLASSES[verdict.holds]}><b>{verdict.word}</b>: "
        f"{escape(verdict.prediction.claim)}</li>"
        for verdict in one.findings.verdicts
    )
    figure = ""
    for first in one.findings.figures[:1]:
        svg = style.svg(first.draw(), f"{one.name}-{first.name}", first.title)
        figure = f"<figure>{svg}<figcaption>{escape(first.title)}</figcaption></figure>"
    link = escape(str(one.page.relative_to(options.logs)))
    agreed = "" if one.findings.agrees is not False else "Manual and autograd part. "
    return (
        f'<section class=card>{kicker}<h2><a href="{link}">{question}</a></h2>'
        f"<p class=note>{agreed}</p><ul>{items}</ul>{figure}</section>"
    )
