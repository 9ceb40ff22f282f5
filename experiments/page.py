"""The style of a report: light and dark, wide and narrow."""

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{css}</style>
"""

CSS = """
:root { --page: #fdfdfc; --ink: #1d2126; --dim: #5d6570; --line: #dfe2e6; --card: #f4f5f6;
  --holds: #0a7d5c; --fails: #c23d12; --open: #8a6500; }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --ink: #e4e7ea; --dim: #9aa3ad;
  --line: #31373e; --card: #1d2126; --holds: #3cc79a; --fails: #ff8a5c; --open: #e0b64a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; }
h1 { font-size: clamp(1.35rem, 3.4vw, 2rem); line-height: 1.25; margin: 0 0 1.4rem;
  max-width: 34em; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .7rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: .5rem 0; max-width: 46em; }
.kicker { color: var(--dim); margin: 0 0 .3rem; font-size: .9rem; }
.small, figcaption { color: var(--dim); font-size: .875rem; line-height: 1.45; }
.verdicts { list-style: none; margin: 0; padding: 0; display: grid; gap: .7rem; }
.verdicts li { display: grid; grid-template-columns: 9.5rem 1fr; gap: .2rem 1rem;
  background: var(--card); border-left: 4px solid var(--tone); padding: .7rem 1rem;
  border-radius: 0 6px 6px 0; }
.verdicts b { color: var(--tone); }
.verdicts p { margin: 0 0 .2rem; }
.claim { font-weight: 600; }
.holds { --tone: var(--holds); } .fails { --tone: var(--fails); } .open { --tone: var(--open); }
.agreement { border-left: 4px solid var(--tone); padding: .1rem 0 .1rem 1rem; margin: 1.2rem 0; }
.note { color: var(--open); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .94rem; }
th, td { padding: .38rem .9rem .38rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; font-weight: 500; padding-right: 1.4rem; }
thead th { color: var(--dim); font-weight: 500; vertical-align: bottom; line-height: 1.3; }
@media (max-width: 40rem) { thead th { white-space: normal; }
  th, td { padding-right: .7rem; } }
.setup td { text-align: left; white-space: normal; min-width: 16rem; }
.setup th { vertical-align: top; white-space: normal; }
.setup .group th { color: var(--dim); padding-top: 1rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: 2.2rem 2.5rem; }
figure { margin: 0; min-width: 0; max-width: 40rem; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { margin-top: .4rem; }
pre { background: var(--card); padding: .8rem 1rem; border-radius: 6px; overflow-x: auto;
  font-size: .875rem; line-height: 1.6; }
@media (max-width: 40rem) { .verdicts li { grid-template-columns: 1fr; }
  main { padding-top: 1rem; } }
@media print { .figures { grid-template-columns: 1fr 1fr; } figure { break-inside: avoid; } }
"""
