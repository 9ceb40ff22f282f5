"""The formulas of the specs, set as mathematics: LaTeX for Markdown, MathML for a browser.

A spec writes its formulas in plain characters, the way one would in a letter::

    y = x W^T + b        x_n is a subscript, x_(n-1) and x_{n, t} are longer ones
    dx = dy (1 - y^2)    x^2 and e^(x - 1) are superscripts, x^ alone is x with a hat
    y = max(x, 0)        known words are functions, Greek letters, sums; others are English

``dx`` is short for dL/dx, as everywhere in the specs. It is one symbol here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape

__all__ = ["Token", "latex", "mathml", "parse"]

# ruff: noqa: RUF001  letters and signs of mathematics are meant

_GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "eps": "ε",
    "theta": "θ",
    "lam": "λ",
    "mu": "μ",
    "pi": "π",
    "sigma": "σ",
    "tau": "τ",
    "phi": "φ",
    "psi": "ψ",
    "Phi": "Φ",
    "Gamma": "Γ",
}
_BIG = {"sum": "∑", "prod": "∏", "integral": "∫"}
_FUNCTIONS = frozenset(
    "acos acosh arg asin asinh atan atan2 atanh clamp conv cos cosh cross_entropy conv_transpose "
    "erf exp fold gelu igamma ln log max mean min norm onehot pixel_shuffle pixel_unshuffle "
    "channel_shuffle relu round rowsum sigmoid sign silu sin sinh softmax softplus sym tan "
    "tanh tril trunc unfold zeta".split()
)
_NAMES = {"weight", "bias", "target", "rstd", "grid", "mask", "lr"}
_SIGNS = {"<=": "≤", ">=": "≥", "!=": "≠", ":=": "≔", "-": "−", "*": "·"}
_TOKEN = re.compile(
    r"(?P<number>\d+\.?\d*(?:e[+-]?\d+)?)"
    r"|(?P<word>(?:conv_transpose|pixel_shuffle|pixel_unshuffle|channel_shuffle|cross_entropy)"
    r"|[A-Za-z∂]+\d*(?:'s\b|'*))"
    r"|(?P<op>:=|<=|>=|!=|\.\.\.|.)",
    re.S,
)


@dataclass
class Token:
    """A piece of a formula.

    Attributes:
        kind: "number", "symbol" (a variable), "function", "text" (English) or "sign".
        text: As it is written.
        sub: Its subscript.
        sup: Its superscript.
        hat: Whether it wears a hat.
        space: How many spaces stand before it; two keep clauses apart.
    """

    kind: str
    text: str
    sub: list[Token] = field(default_factory=list)
    sup: list[Token] = field(default_factory=list)
    hat: bool = False
    space: int = 0


def parse(formula: str) -> list[Token]:
    """The pieces of a formula, in order; scripts hang on the piece before them."""
    found: list[Token] = []
    pieces = _Reader(formula).all()
    for token, following in zip(pieces, [*pieces, Token("sign", "")][1:], strict=True):
        speaks = following.kind == "text" or following.text == ","
        if speaks and not token.sub and (token.kind == "function" or token.text == "a"):
            token.kind = "text"  # "mean of", "sum, mean or max of", "a channel"
        last = found[-1] if found else Token("sign", "")
        if token.kind == "text" and last.kind == "text":
            last.text += f" {token.text}"
        elif token.kind == "number" and last.text == "-" and not token.space and _is_prefix(found):
            last.kind, last.text = "number", f"-{token.text}"  # a negative number is one piece
            last.sub, last.sup = token.sub, token.sup
        else:
            found.append(token)
    return found


def _is_prefix(pieces: list[Token]) -> bool:
    """Whether the last piece, a minus, stands where a number may begin."""
    before = pieces[-2] if len(pieces) > 1 else Token("sign", "(")
    return before.kind == "sign" and before.text in "([=,*/+-<>"


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def all(self, closing: str = "") -> list[Token]:
        """Everything up to a closing bracket, which is read too."""
        found: list[Token] = []
        depth = 0
        while self.at < len(self.text):
            if closing and depth == 0 and self.text[self.at] == closing:
                self.at += 1
                break
            token = self.one()
            if token is None:
                continue
            depth += {"(": 1, ")": -1}.get(token.text, 0) if closing == ")" else 0
            found.append(token)
        return found

    def one(self) -> Token | None:
        """The next piece with its scripts."""
        start = self.at
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        kind = match.lastgroup or "op"
        token = _classified(kind, match.group(), self.text[self.at : self.at + 1])
        token.space = match.start() - start
        self.scripts(token)
        return token

    def scripts(self, token: Token) -> None:
        while self.at < len(self.text) and self.text[self.at] in "_^":
            mark = self.text[self.at]
            following = self.text[self.at + 1 : self.at + 2]
            if mark == "^" and (not following or following in " ),"):
                token.hat, self.at = True, self.at + 1
                continue
            self.at += 1
            script = self.script(indices=mark == "_")
            if mark == "_":
                token.sub += ([Token("sign", ",")] if token.sub else []) + script
            else:
                token.sup += script

    def script(self, indices: bool) -> list[Token]:
        opening = self.text[self.at : self.at + 1]
        if opening in ("{", "("):
            self.at += 1
            inner = self.all("}" if opening == "{" else ")")
            if indices:  # ps+kd: letters, not words
                inner = [
                    part for t in inner for part in (_letters(t.text) if _is_index(t) else [t])
                ]
            rest = re.match(r"[a-z]+", self.text[self.at :]) if indices else None
            if opening == "(" and rest:  # y_(ck)p
                self.at += rest.end()
                return [Token("sign", "("), *inner, Token("sign", ")"), *_letters(rest.group())]
            return inner
        sign = []
        if opening == "-":
            self.at += 1
            sign = [Token("sign", "-")]
        if self.text[self.at : self.at + 1] == "|":  # e^-|x|
            end = self.text.find("|", self.at + 1) + 1 or len(self.text)
            inner, self.at = parse(self.text[self.at : end]), end
            return sign + inner
        if indices:
            match = re.match(r"[A-Za-z]+|\d+", self.text[self.at :])
            self.at += match.end() if match else 0
            found = _letters(match.group()) if match else []
            if self.text[self.at : self.at + 1] == "(":  # x_i(m)
                self.at += 1
                found += [Token("sign", "("), *self.all(")"), Token("sign", ")")]
            return sign + found
        token = self.one()
        return sign + ([token] if token is not None else [])


def _is_index(token: Token) -> bool:
    """Whether a word in a subscript is indices written together: ``ps``, but not ``term``."""
    return token.kind == "text" and len(token.text) == 2


def _letters(word: str) -> list[Token]:
    """The indices ``n`` and ``o`` of ``no``; a Greek letter or a number is one."""
    if word in _GREEK or word.isdigit():
        return [_classified("number" if word.isdigit() else "word", word, "")]
    return [Token("symbol", letter) for letter in word]


def _classified(kind: str, text: str, following: str) -> Token:
    if kind == "number":
        return Token("number", text)
    if kind == "op":
        return Token("sign", text)
    if text == "sqrt":
        return Token("sign", "√")
    plain = text.rstrip("'")
    if plain in _BIG or plain in _FUNCTIONS:
        return Token("function", text)
    digits = re.fullmatch(r"(\D+)(\d+)", plain)
    if digits and (len(digits[1].removeprefix("d")) == 1 or digits[1] in _GREEK):  # x1 is x_1
        return Token("symbol", digits[1], sub=[Token("number", digits[2])])
    bare = plain.removeprefix("d").removeprefix("∂") if len(plain) > 1 else plain
    if plain in _GREEK or plain in _NAMES or len(bare) == 1 or bare in {*_GREEK, *_NAMES}:
        return Token("symbol", text)
    return Token("function" if following == "(" else "text", text)


def latex(formula: str) -> str:
    """The formula in LaTeX, without dollars."""
    written = "".join(_latex(token) for token in parse(formula)).strip()
    return re.sub(r" \}(?=[),]|$)", "}", written)  # no space between a word and what closes it


def _latex(token: Token) -> str:
    core = _latex_core(token)
    if token.hat:
        core = rf"\hat{{{core}}}"
    if token.sub:
        core += "_{" + "".join(map(_latex, token.sub)).strip() + "}"
    if token.sup:
        core += "^{" + "".join(map(_latex, token.sup)).strip() + "}"
    return ("\\quad " if token.space > 1 else " " if token.space else "") + core


def _latex_core(token: Token) -> str:
    text = token.text.rstrip("'")
    primes = "'" * (len(token.text) - len(text))
    if token.kind == "text":
        return rf"\text{{ {token.text} }}"
    if token.kind == "sign":
        names = {
            "<=": r"\le",
            ">=": r"\ge",
            "!=": r"\ne",
            "*": r"\cdot",
            "...": r"\ldots",
            "√": r"\surd ",
        }
        return names.get(text, {"{": r"\{", "}": r"\}", "%": r"\%"}.get(text, text))
    if token.kind == "function":
        if text in _BIG:
            return {"sum": r"\sum", "prod": r"\prod"}.get(text, r"\int")
        return rf"\operatorname{{{text.replace('_', chr(92) + '_')}}}"
    if token.kind == "number":
        digits, _, power = text.partition("e")
        return rf"{digits} \cdot 10^{{{int(power)}}}" if power else text
    if text.startswith("d") and len(text) > 1 and text != "delta":
        return rf"\mathrm{{d}}{_latex_name(text[1:])}{primes}"
    return _latex_name(text) + primes


def _latex_name(name: str) -> str:
    if name in _GREEK:
        return {"eps": r"\varepsilon", "lam": r"\lambda"}.get(name, rf"\{name}")
    if len(name) == 1:
        return name.replace("∂", r"\partial ")
    return rf"\partial {name[1:]}" if name.startswith("∂") else rf"\mathit{{{name}}}"


def mathml(formula: str) -> str:
    """The formula as MathML, which browsers set by themselves.

    One span of the class "clause" for each clause, in it a row of ``<math>`` elements that may
    break before a ``=``, ``+`` or ``-`` outside of brackets, as a long line has to on a narrow
    screen. Gradients (``dx``) have the class "d", numbers the class "n", English the class "w".
    """
    clauses: list[list[list[str]]] = [[[]]]
    depth, before = 0, Token("sign", "=")
    for token in parse(formula):
        sign = token.text if token.kind == "sign" else ""
        depth += (sign in _OPENING) - (sign in _CLOSING)
        if depth == 0 and token.space > 1:
            clauses.append([[]])
        elif depth == 0 and clauses[-1][-1] and token.space and sign in _BREAKS:
            clauses[-1].append([])
        if token.space == 1 and _is_factor(before, last=True) and _is_factor(token, last=False):
            clauses[-1][-1].append('<mspace width="0.25em"></mspace>')
        clauses[-1][-1].append(_mathml(token))
        before = token
    written = " ".join(
        '<span class="clause">'
        + " ".join(f"<math><mrow>{''.join(chunk)}</mrow></math>" for chunk in clause)
        + "</span>"
        for clause in clauses
    )
    return re.sub(r"&nbsp;(?=</mtext><mo>[),])", "", written)


_OPENING, _CLOSING, _BREAKS = frozenset("([{"), frozenset(")]}"), frozenset("=+-")


def _is_factor(token: Token, last: bool) -> bool:
    """Whether a product may end, or begin, with it."""
    if token.kind == "sign":
        return token.text in (")]" if last else "([√")
    return token.kind in ("symbol", "number", "function")


def _mathml(token: Token) -> str:
    core = _mathml_core(token)
    if token.hat:
        core = f'<mover accent="true">{core}<mo stretchy="false">ˆ</mo></mover>'
    sub = "".join(map(_mathml, token.sub))
    sup = "".join(map(_mathml, token.sup))
    if sub and sup:
        return f"<msubsup>{core}<mrow>{sub}</mrow><mrow>{sup}</mrow></msubsup>"
    if sub:
        return f"<msub>{core}<mrow>{sub}</mrow></msub>"
    if sup:
        return f"<msup>{core}<mrow>{sup}</mrow></msup>"
    return core


def _mathml_core(token: Token) -> str:
    text = token.text
    if token.kind == "text":
        return f'<mtext class="w">&nbsp;{escape(text)}&nbsp;</mtext>'
    if token.kind == "sign":
        # A line may break before it; it is no sign of the number after it then.
        form = ' form="infix"' if text in _BREAKS and token.space else ""
        return f"<mo{form}>{escape(_SIGNS.get(text, text))}</mo>"
    if token.kind == "number":
        digits, _, power = text.replace("-", "−", text.startswith("-")).partition("e")
        if not power:
            return f'<mn class="n">{digits}</mn>'
        power = str(int(power)).replace("-", "−")
        tens = f"<msup><mn>10</mn><mn>{power}</mn></msup>"
        return f'<mrow><mn class="n">{digits}</mn><mo>·</mo>{tens}</mrow>'
    if token.kind == "function":
        if text in _BIG:
            return f"<mo>{_BIG[text]}</mo>"
        return f'<mi mathvariant="normal">{escape(text)}</mi><mspace width="0.15em"></mspace>'
    name = text.rstrip("'")
    primes = "′" * (len(text) - len(name))
    if name.startswith("d") and len(name) > 1 and name != "delta":
        rest = _GREEK.get(name[1:], name[1:])
        inner = f'<mi mathvariant="normal">d</mi><mi>{escape(rest)}{primes}</mi>'
        return f'<mrow class="d">{inner}</mrow>'
    if name.startswith("∂"):
        return f"<mrow><mo>∂</mo><mi>{escape(name[1:])}{primes}</mi></mrow>"
    return f"<mi>{escape(_GREEK.get(name, name))}{primes}</mi>"
