# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Numbers in figures and in words, as exact fractions."""

import re
from fractions import Fraction
from typing import NamedTuple

from .units import CURRENCIES


_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORDS = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * (i + 2) for i, word in enumerate(_TENS)}
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7}
_PARTS |= {"eighth": 8, "ninth": 9, "tenth": 10, "twelfth": 12, "hundredth": 100, "thousandth": 1000}
_SCALES = {"hundred": 100, "thousand": 10**3, "grand": 10**3, "k": 10**3, "lakh": 10**5, "lac": 10**5}
_SCALES |= {"crore": 10**7, "million": 10**6, "mn": 10**6, "mln": 10**6, "mio": 10**6, "billion": 10**9, "bn": 10**9}
_SCALES |= {"bln": 10**9, "trillion": 10**12, "tn": 10**12, "trn": 10**12, "quadrillion": 10**15, "dozen": 12}
_LETTERS = {"M": 10**6, "B": 10**9, "T": 10**12}  # directly behind a number; with a currency in front small ones too

# In figures. Groups of three, and of two as in India; a comma or full stop between figures that is none of these and no
# decimal point leaves no number at all ("5,6", "1.2.3")
_GROUPED = (
    r"\d{1,3}(?:\.\d{3})+,\d+(?![\d.,])|\d{1,3}(?:\.\d{3}){2,}(?![\d.,]\d|\d)"  # 1.234,56 and 1.000.000
    r"|\d{1,3}(?: \d{3})+,\d{1,2}(?![\d.,])"
    r"|(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|[1-9]\d{0,2}(?: \d{3})+|\d{1,3}(?:'\d{3})+|\d{1,3}(?:_\d{3})+)(?!\d)"
)
_DECIMAL = rf"(?:(?:{_GROUPED}|\d+)(?:\.\d+)?|\.\d+)"
_POWER = r"(?:[eE][-+]?\d+|\s?[xX×*]\s?10\s?\^\s?\{?[-+]?\d+\}?)"
_FIGURES = (
    rf"10\s?\^\s?\{{?[-+]?\d+\}}?(?![\d^])"
    rf"|\d+(?:\s|-|\s?\+\s?|\sand\s)\d+\s?/\s?\d+(?!\s?/|\d)"  # 1 1/2
    rf"|{_DECIMAL}\s?/\s?{_DECIMAL}(?!\s?/\s?\d|\d)"
    rf"|{_DECIMAL}(?:{_POWER})?"
)
_NO_MORE = r"(?!\d|[.,'_]\d|\.{2,}\d)"

# In words
_UNIT_WORD = "|".join(_SMALL[1:10])
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[- ](?:{_UNIT_WORD}))?|{'|'.join(sorted(_SMALL, key=len, reverse=True))})"
_BELOW_1000 = rf"(?:(?:{_BELOW_100}|an?)[- ]hundred(?:[- ](?:and )?{_BELOW_100})?|{_BELOW_100})"
_BIG = "thousand|million|billion|trillion"
_SPELLED = (
    rf"(?:(?:{_BELOW_1000}|an?)[- ](?:{_BIG})(?:,? (?:and )?{_BELOW_1000}(?: (?:{_BIG}))?)*|{_BELOW_1000})(?![\w])"
)
_PART_WORDS = "|".join(sorted(_PARTS, key=len, reverse=True))
_SPELLED_PART = (
    rf"(?:an?|{'|'.join(_SMALL[1:11])})[- ](?:{_PART_WORDS})s?(?!\w)|half(?= an? | the | of |-| ?$| ?[.,;!)]| dozen)"
    r"|half (?:an? )?(?=dozen|hundred|thousand|million|billion)|an? (?=dozen|hundred|thousand|million|billion|trillion)"
)

_CURRENCY = "|".join(sorted(map(re.escape, CURRENCIES), key=len, reverse=True))
_SCALE_WORDS = "|".join(sorted(_SCALES, key=len, reverse=True))
_NUMBER = re.compile(
    # A sign behind a figure, a letter or a bracket is an operator or a dash
    r"(?<![\w.)\]^])(?<!\d[.,:/'_])"
    rf"(?P<sign>(?:(?<![\d)])[-+–])?)(?P<open>\(?)(?:(?P<currency>{_CURRENCY})\s?)?(?P<second>[-+–]?)"
    rf"(?:(?P<figures>{_FIGURES}){_NO_MORE}|(?i:(?P<part>{_SPELLED_PART})|(?P<spelled>{_SPELLED})))"
    rf"(?P<letter>(?:[MBT]|(?<=\d)[kK])(?!\w)|(?<=\d)[mb](?!\w))?"
    rf"(?P<scales>(?:[\s-]?(?:{_SCALE_WORDS})s?(?!\w))*)"
    rf"(?P<mixed>\s(?:and\s)?(?:an?|one|two|three)[- ](?:{_PART_WORDS})s?(?!\w))?"
    rf"(?P<parts>[- ](?:thirds|halves|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths|thousandths)(?!\w))?",
)
_LARGEST_EXPONENT, _MOST_FIGURES = 300, 300  # no answer has more, and longer ones cost memory


class Numeral(NamedTuple):
    """
    A number in a text.

    Args:
        value (`Fraction`): Its value, with the sign and the scale word.
        currency (`str`): The currency in front of it, `""` where there is none.
        start (`int`): Where it begins.
        end (`int`): Where it ends.
        figures (`bool`): Whether it is written in figures.
    """

    value: Fraction
    currency: str
    start: int
    end: int
    figures: bool


def find_numerals(text: str) -> list[Numeral]:
    """
    The numbers of a text in one writing (see `clean`), in their order.

    Example:
    ```python
    >>> [str(numeral.value) for numeral in find_numerals("-$1,234.50 and 1.5 million, two dozen, 3/4")]
    ['-2469/2', '1500000', '24', '3/4']

    ```
    """
    found = []
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            start = match.start() + len(match["open"]) * (not match["sign"])
            end = match.start("letter") if _is_unit(match) else match.end()
            found.append(Numeral(value, match["currency"] or "", start, end, match["figures"] is not None))
    return found


def _value(match: re.Match[str]) -> Fraction | None:
    if match["figures"] is not None:
        value = _of_figures(match["figures"])
    elif match["part"] is not None:
        value = _of_part(match["part"])
    else:
        value = _of_words(match["spelled"])
    if value is None or (match["sign"] and (match["second"] or match["open"])):
        return None
    for scale in re.findall(r"[a-z]+", match["scales"]):
        value *= _SCALES[scale if scale in _SCALES else scale[:-1]]
    letter = match["letter"]
    if letter is not None:
        if letter in "kK":
            value *= 1000
        elif not _is_unit(match):
            value *= _LETTERS[letter.upper()]
    if match["mixed"]:
        part = _of_part(re.sub(r"^\s(and\s)?", "", match["mixed"]))
        value += part if part is not None else 0
    if match["parts"]:
        value /= _PARTS["half" if match["parts"][1:] == "halves" else match["parts"][1:-1]]
    return -value if "-" in (sign := match["sign"] + match["second"]) or "–" in sign else value


def _is_unit(match: re.Match[str]) -> bool:
    """5m are metres, $5m are millions."""
    return match["letter"] in ("m", "b") and not match["currency"]


def _of_figures(text: str) -> Fraction | None:
    if len(text) > _MOST_FIGURES:
        return None
    if mixed := re.fullmatch(r"(\d+)(?:\s|-|\s?\+\s?|\sand\s)(\d+)\s?/\s?(\d+)", text):
        whole, numerator, denominator = map(int, mixed.groups())
        return None if numerator >= denominator else whole + Fraction(numerator, denominator)
    if "/" in text:
        numbers = [_of_decimal(part.strip()) for part in text.split("/")]
        return None if numbers[1] == 0 else numbers[0] / numbers[1]
    power = re.search(r"(?:[eE]|10\s?\^\s?)\{?([-+]?\d+)\}?$", text)
    if power is None:
        return _of_decimal(text)
    exponent = int(power[1])
    if abs(exponent) > _LARGEST_EXPONENT:
        return None
    mantissa = re.sub(r"[\sxX×*]+$", "", text[: power.start()])
    return (_of_decimal(mantissa) if mantissa else 1) * Fraction(10) ** exponent


def _of_decimal(text: str) -> Fraction:
    text = re.sub(r"[ '_]", "", text)
    if re.fullmatch(r"\d{1,3}(\.\d{3}){2,}|\d{1,3}(\.\d{3})*,\d+|\d+,\d{1,2}", text) and not re.fullmatch(
        r"\d{1,3}(,\d{3})+", text
    ):
        text = text.replace(".", "").replace(",", ".")
    return Fraction(text.replace(",", ""))


def _of_part(text: str) -> Fraction:
    words = re.findall(r"[a-z]+", text.casefold())
    if words[0] == "half":
        return Fraction(1, 2)
    if len(words) == 1:  # the "a" of "a dozen"
        return Fraction(1)
    part = "half" if words[1] == "halves" else words[1] if words[1] in _PARTS else words[1][:-1]
    return Fraction(_WORDS.get(words[0], 1), _PARTS[part])


def _of_words(text: str) -> Fraction:
    total = current = 0
    for word in re.findall(r"[a-z]+", text.casefold()):
        if word in ("a", "an"):
            current += 1
        elif word == "hundred":
            current *= 100
        elif word in _SCALES:
            total, current = total + current * _SCALES[word], 0
        elif word != "and":
            current += _WORDS[word]
    return Fraction(total + current)
