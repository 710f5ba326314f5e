# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""One writing for what Unicode, LaTeX and Markdown write in many ways."""

import re
import unicodedata


FACTORIAL = "\ue000"  # an exclamation mark in a formula
_DOLLAR = "\ue001"  # a dollar sign that is certainly money

_SIGNS = {
    **dict.fromkeys("\u2010\u2011\ufe63", "-"),
    **dict.fromkeys("\u2012\u2013\u2e3a", "\N{EN DASH}"),
    **dict.fromkeys("\u2014\u2015\u2e3b\ufe58", "\N{EM DASH}"),
    **dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
    **dict.fromkeys("\u00b7\u2219\u22c5\u2217", "×"),
    **dict.fromkeys("\u223c\u2243\u2245\u2248\u2252", "≈"),
    **dict.fromkeys("\u2044\u2215\u00f7", "/"),
    **dict.fromkeys("\u2192\u21d2\u27f9\u2794\u27a1", "="),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\ufe0f", ""),
    "\N{RATIO}": ":",
    "\N{FULLWIDTH YEN SIGN}": "¥",
    "\N{IDEOGRAPHIC FULL STOP}": ".",
    "\N{ARABIC PERCENT SIGN}": "%",
    "\N{ARABIC DECIMAL SEPARATOR}": ".",
    "\N{ARABIC THOUSANDS SEPARATOR}": ",",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{DEGREE CELSIUS}": "°C",
    "\N{DEGREE FAHRENHEIT}": "°F",
}
_COMMANDS = {
    r"\\(?:left|right|big|Big|bigl|bigr|displaystyle|textstyle|bf|rm|it)(?![A-Za-z])|\\!": "",
    r"\\[,;:> ]|\\q?quad(?![A-Za-z])|\\(?:hspace|phantom)\{[^{}]*\}": " ",
    r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?:s)?(?![A-Za-z])": "°",
    r"\\(?:times|cdot|ast)(?![A-Za-z])": "×",
    r"\\div(?![A-Za-z])": "/",
    r"\\(?:approx|sim|simeq|thickapprox)(?![A-Za-z])": "≈",
    r"\\(?:to|rightarrow|Rightarrow|implies|longrightarrow)(?![A-Za-z])": "=",
    r"\\colon(?![A-Za-z])": ":",
    r"\\(?:pounds|textsterling)(?![A-Za-z])": "£",
    r"\\(?:euro|texteuro)(?:\{\})?(?![A-Za-z])": "€",
    r"\\(?:cents?|textcent)(?![A-Za-z])": "¢",
    r"\\(?:dots|ldots|cdots)(?![A-Za-z])": "...",
    r"\\([%#&_])": r"\1",
    r"(?<=\d)\{,\}(?=\d)": ",",
}
_WRAPPER = re.compile(
    r"\\(?:boxed|fbox|text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|mbox|hbox|emph|bm|boldsymbol"
    r"|underline|operatorname|bold)\s*\{([^{}]*)\}"
)
_ARGUMENT = r"(?:\{\s*([-+]?[\d.,]+)\s*\}|(\d))"
_FRACTION = re.compile(rf"(?:(\d)\s*)?\\[dtc]?frac\s*{_ARGUMENT}\s*{_ARGUMENT}")
# As pandoc tells a formula from money: no space inside of either sign, no digit behind the second
_DOLLARS = re.compile(r"\$(?=[^\s$])([^$\n]*?[^\s$])\$(?!\d)")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")


def clean(text: str, formula: bool = False) -> str:
    r"""
    An answer in one writing: digits of ASCII, `-` for a minus sign, `a/b` for fractions, no LaTeX around numbers and
    words, no dollar signs around a formula, no Markdown, no quotes around it, single spaces.

    Args:
        text (`str`):
            An answer, or a text with answers.
        formula (`bool`, *optional*, defaults to `False`):
            Whether all of it stands in a formula, where an exclamation mark is a factorial.

    Example:
    ```python
    >>> clean("**$1\\frac{1}{2}$** apples"), clean("\\text{\\$18}"), clean("−½")
    ('1 1/2 apples', '$18', '-1/2')

    ```
    """
    text = _latex(_characters(text), formula)
    text = re.sub(r"~~.*?~~", " ", text)  # struck out
    text = re.sub(r"</?[a-zA-Z][^<>]*>|<\|[^<>|]*\|>", " ", text)
    text = re.sub(r"(?<![A-Za-z0-9])~(?=\s?[\d$])", "≈", text).replace("~", " ")
    text = re.sub(r"\*\*|__|`", "", text)
    text = re.sub(r"(?<![\w*])([*_])(?=[^\s*_])([^*_]*?)(?<=\S)\1(?![\w*])", r"\2", text)
    text = text.replace("!=", "≠").replace("<=", "≤").replace(">=", "≥")
    text = re.sub(r"->|=>|-->|==>", "=", text)
    text = re.sub(r"\s+", " ", text).strip()
    return text.strip(" \"'*")


def plain(text: str) -> str:
    """An answer that is compared as text: [`clean`], without case and a full stop."""
    return clean(text).rstrip(".").strip(" \"'*").casefold()


def _characters(text: str) -> str:
    characters = []
    for character in text:
        name = _SIGNS.get(character)
        if name is not None:
            characters.append(name)
        elif character.isdecimal():
            characters.append(str(unicodedata.decimal(character)))
        elif "<fraction>" in unicodedata.decomposition(character):  # ½, and 1½
            numerator, _, denominator = unicodedata.normalize("NFKC", character).partition("⁄")
            characters.append(f"{' ' * bool(characters and characters[-1].isdigit())}{numerator}/{denominator}")
        elif "\uff01" <= character <= "\uff5e" or unicodedata.category(character) == "Zs" or character in "＄￠￡":
            characters.append(unicodedata.normalize("NFKC", character))
        elif unicodedata.category(character) == "So" and character != "°":  # a tick, a smiley
            characters.append(" ")
        else:
            characters.append(character)
    text = "".join(characters)
    text = _SUPERSCRIPTS.sub(lambda match: "^" + unicodedata.normalize("NFKC", match[0]).replace("−", "-"), text)
    # A minus sign is one, whatever stands beside it; a hyphen with a space behind it may be a dash
    return re.sub("\N{MINUS SIGN}\\s*(?=[\\d.$€£¥\\\\])", "-", text).replace("\N{MINUS SIGN}", "-")


def _latex(text: str, formula: bool) -> str:
    text = text.replace("\\$", _DOLLAR)
    text = re.sub(r"\$\$(.+?)\$\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", lambda m: f" {_math(m[1] or m[2] or m[3])} ", text)
    text = re.sub(r"\$\$|\\[()\[\]]", " ", text)
    text = _DOLLARS.sub(lambda match: _math(match[1]), text)
    if "\\" in text or "{" in text:
        for pattern, replacement in _COMMANDS.items():
            text = re.sub(pattern, replacement, text)
        text = re.sub(r"\\boxed(?:\s+|(?=\d))", "", text)
        text = _unwrap(_WRAPPER, text)
        text = _FRACTION.sub(_fraction, text)
        text = _unwrap(_WRAPPER, text)
        text = re.sub(r"(?<![A-Za-z}])\{([-+]?[\d.,/ ]+)\}", r"\1", text)
    if formula:
        text = _math(text)
    return text.replace(_DOLLAR, "$")


def _math(text: str) -> str:
    return re.sub(r"^\s*-\s+", "-", text.replace("\\!", "")).replace("!", FACTORIAL)


def _unwrap(pattern: re.Pattern[str], text: str) -> str:
    """What a command encloses, innermost first, with a space where a word begins behind a number."""
    while match := pattern.search(text):
        inside = match[1]
        space = " " if match.start() and text[match.start() - 1].isdigit() and inside[:1].isalpha() else ""
        text = text[: match.start()] + space + inside + text[match.end() :]
    return text


def _fraction(match: re.Match[str]) -> str:
    whole, numerator, denominator = match[1], match[2] or match[3], match[4] or match[5]
    return f"{whole} {numerator}/{denominator}" if whole else f"{numerator}/{denominator}"
