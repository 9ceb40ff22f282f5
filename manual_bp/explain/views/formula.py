"""The formulas of the specs, read into the pieces that LaTeX and MathML are made of.

A spec writes its formulas in plain characters, the way one would in a letter::

    y = x W^T + b        x_n is a subscript, x_(n-1) and x_{n, t} are longer ones
    dx = dy (1 - y^2)    x^2 and e^(x - 1) are superscripts, x^ alone is x with a hat
    y = max(x, 0)        known words are functions, Greek letters, sums; others are English

``dx`` is short for dL/dx, as everywhere in the specs. It is one symbol here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["BIG", "GREEK", "Token", "parse"]

# ruff: noqa: RUF001  letters and signs of mathematics are meant

# Word to letter, and function to sign.
GREEK = {
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
BIG = {"sum": "∑", "prod": "∏", "integral": "∫"}
_FUNCTIONS = frozenset(
    "acos acosh arg asin asinh atan atan2 atanh clamp conv cos cosh cross_entropy conv_transpose "
    "erf exp fold gelu igamma ln log max mean min norm onehot pixel_shuffle pixel_unshuffle "
    "channel_shuffle relu round rowsum sigmoid sign silu sin sinh softmax softplus sym tan "
    "tanh tril trunc unfold zeta".split()
)
_NAMES = {"weight", "bias", "target", "rstd", "grid", "mask", "lr"}
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
    if word in GREEK or word.isdigit():
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
    if plain in BIG or plain in _FUNCTIONS:
        return Token("function", text)
    digits = re.fullmatch(r"(\D+)(\d+)", plain)
    if digits and (len(digits[1].removeprefix("d")) == 1 or digits[1] in GREEK):  # x1 is x_1
        return Token("symbol", digits[1], sub=[Token("number", digits[2])])
    bare = plain.removeprefix("d").removeprefix("∂") if len(plain) > 1 else plain
    if plain in GREEK or plain in _NAMES or len(bare) == 1 or bare in {*GREEK, *_NAMES}:
        return Token("symbol", text)
    return Token("function" if following == "(" else "text", text)
