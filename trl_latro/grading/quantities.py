# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
An answer that is a quantity: a number with its sign, currency, scale word and unit, and the words around it that do not
change it.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from .numerals import Numeral, find_numerals
from .units import ATTACHED, CURRENCIES, FUNCTION_WORDS, unit_name
from .writing import FACTORIAL, clean


class Quantity(NamedTuple):
    """
    What an answer says.

    Args:
        numbers (`tuple[Fraction, ...]`):
            Its number, or the two of a range, a ratio, a time or a list, in their order.
        relation (`str`):
            What stands between two numbers (`":"`, `"-"`, `"to"`, `"and"`, `"or"`), `""` for a single one.
        unit (`tuple[str, ...]`):
            Names of its units, with the currency; `()` where there is none.
    """

    numbers: tuple[Fraction, ...]
    relation: str
    unit: tuple[str, ...]

    @property
    def hundredths(self) -> bool:
        """Whether it counts hundredths of something: percent, cents."""
        return self.unit[:1] in (("percent",), ("cent",))

    def exact(self) -> Fraction:
        """Its value in whole units: 0.5 for 50 % and for 50 cents."""
        return self.numbers[0] / 100 if self.hundredths else self.numbers[0]


# ---- what stands around a number ----

_DENIAL = (
    r"\b(?:not|never|no|none|neither|nor|cannot|without|except|unlikely|wrong|incorrect|false|impossible)\b|n't\b"
)
_DOUBT = (
    r"\b(?:or|either|unknown|unclear|undefined|undetermined|unsure|uncertain|unless|if|whether|versus|vs|question)\b"
)
_BOUND = (
    r"\b(?:than|least|most|over|under|above|below|beyond|between|within|up to|upto|exceed\w*|almost|nearly|close to|near|not?"
    r"|before|after|until|till|from|minimum|maximum|min|max|twice|thrice|double\w*|triple\w*|half|times|squared?|cubed?|root"
    r"|power|log\w*|ln|sin|cos|tan|sqrt|exp|factorial|reciprocal|inverse|opposite|modulo|mod|plus|minus|prime|ratio|range)\b"
)
_BAD_LEAD = re.compile(f"{_DENIAL}|{_DOUBT}|{_BOUND}", re.IGNORECASE)
_BAD_REST = re.compile(
    rf"{_DENIAL}|{_DOUBT}|\b(?:squared|cubed|factorial|plus|minus|maybe|perhaps|possibly|at least|at most|and counting"
    r"|upwards?|divided|multiplied|modulo|mod|base|halves|thirds|percentiles?|nd|rd|th|st|negative|below zero|power)\b",
    re.IGNORECASE,
)
# The words between a clause and its number
_FILLER = re.compile(
    r"(?:\b(?:about|around|approximately|approx\.?|roughly|circa|ca\.?|exactly|precisely|simply|just|only|actually|indeed"
    r"|clearly|therefore|thus|now|also|definitely|probably|likely|maybe|perhaps|possibly|certainly|obviously|equal to"
    r"|an?|the|all|(?<=ed |ts |ft |up |ds |an |es )with|number|No\.|option|(?:total|sum|amount|number|profit|cost|price|value|average|mean|distance|speed|length"
    r"|weight|age|area|volume|height|width|result|revenue|income|salary|bill|net|score|charge|fee|loss|change|difference)"
    r"(?: profit| cost| price| amount)? of)|[≈#\"'\[{(:])\s*$",
    re.IGNORECASE,
)
_VERBS = frozenset(
    "is are was were be been being equals equal make made have had get got gets earn earned need take took spend spent pay paid cost "
    "sell sold use used eat ate buy bought save left gave give given become became contain own weigh lost receive charge "
    "owe total read run ran travel drink drank collect bring brought produce finish complete think say believe that find "
    "found yield yields give gives come comes becomes leave leaves there's it's that's he's she's they're answer: so thus "
    "hence therefore has does answer".split()
)
_AUXILIARY = frozenset("will would can could should must may might to has have had did does do".split())

# What explains a number, so that other numbers behind it change nothing
_EXPLANATION = re.compile(
    r"(?:\s*[,;:(\[–—]|\s+-)?\s*\b(?:because|since|given|due to|considering|as (?!many|much|well|low|high)|instead of"
    r"|rather than|as opposed to|where"
    r"|which (?:is|are|was|were|comes?|came|equals?)(?!\s+(?:\w+\s+)?(?:wrong|incorrect|false|not|invalid|impossible)\b))\b"
    r"|\s*[,;(–—]\s*(?:and\s+|but\s+)?not\b(?!\s*[.!?]*$| (?:sure|certain|really|exactly|quite|true|right|correct))"
    r"|[.!]\s+(?=\S)",
    re.IGNORECASE,
)
# A measure beside the counted thing: "18 dollars for 5 days"
_CIRCUMSTANCE = re.compile(
    r"\b(?:for|in|on|at|after|during|over|within|throughout)\s+(?:the |a |all |his |her |their |those |these |next |first |last )*$"
)
_THE_SAME = re.compile(r"\b(?:that is|that's|i\.e\.?|namely|meaning)[,:]?\s*(?:the |exactly |just )*$")
_EXPRESSION_IS = re.compile(
    r"([\d.,$]+(?:\s*(?:[-+*×/]|plus|minus|times|divided by|multiplied by)\s*[\d.,$]+)+)\s+(?:is equal to|equals?|is|makes|gives)\s"
)
_OPERATOR = r"[-+*×/=^]"
_PAIR_SIGNS = {":": ":", "-": "-", "–": "-", "—": "-", "to": "to", "and": "and", ",": "and", ";": "and", "&": "and"}
_PAIR_SIGNS |= {", and": "and", "or": "or", ", or": "or", "/": "or", "through": "to", "until": "to"}
_PAIR_LEADS = {"between": "-", "from": "-", "either": "or", "both": "and", "": ""}


def read_quantity(text: str, reference: bool = False, formula: bool = False) -> Quantity | None:
    """
    Read an answer as a quantity.

    Args:
        text (`str`):
            What stands for the answer, or a reference answer.
        reference (`bool`, *optional*, defaults to `False`):
            Whether it is a reference: nothing stands around the quantity there, and an exclamation mark is a factorial.
        formula (`bool`, *optional*, defaults to `False`):
            Whether it stands in a formula.

    Returns:
        `Quantity | None`: `None` for a text that is none, and for one that leaves the number in doubt.

    Example:
    ```python
    >>> read_quantity("about $1.5 million, because 2 and 3 make 5").numbers
    (Fraction(1500000, 1),)
    >>> read_quantity("not 5"), read_quantity("5 plus 6"), read_quantity("5 or 6").relation
    (None, None, 'or')

    ```
    """
    text = clean(text, formula or reference)
    text = re.sub(r"\b(?:minus|negative)\s+(?=[\d$€£.(]|[a-z]+\b)", "-", text, count=1, flags=re.IGNORECASE)
    text = text.strip(" ,;:=").rstrip(" .?,;:")
    text = _unbracketed(re.sub(r"^(?:\.{2,}\s*|#+\s+)", "", text).rstrip("!"))
    if len(text) > 1000:
        return None
    numerals = find_numerals(text)
    if not numerals:
        return None
    pair = _read_pair(text, numerals, reference)
    if pair is not None:
        return pair
    end = len(text)
    if not reference and (explanation := _EXPLANATION.search(text, numerals[0].end)):
        end = explanation.start()
    said = re.sub(r"(?<=\S)\s*\([^()]*[=≈][^()]*\)", "", text[:end]).rstrip(" .?!,;:")
    said = _EXPRESSION_IS.sub(r"\1 = ", said)
    if re.search("[≈=]", said) and not reference:
        return _read_equation(said)
    return _read_single(said, find_numerals(said), bare=reference, reference=reference)


def _unbracketed(text: str) -> str:
    while len(text) > 1 and text[0] + text[-1] in ("()", "[]", "{}") and not re.search(r"[(\[{)\]},]", text[1:-1]):
        text = text[1:-1].strip()
    return text


def _read_equation(text: str) -> Quantity | None:
    """`x = 5`, `2 + 3 = 5 apples`: the last side."""
    *sides, last = (side.strip() for side in re.split(r"[≈=]", text))
    read = _read_single(last, find_numerals(last), bare=True)
    if read is None or any(re.search(rf"[,;:<>≤≥≠]\s|\d.*\band\b|{_DENIAL}|{_DOUBT}", side) for side in sides):
        return None
    for side in sides:
        other = _read_single(side, find_numerals(side), bare=True)
        if other is not None and other.exact() != read.exact():
            return None
    return read


def _read_single(text: str, numerals: list[Numeral], bare: bool, reference: bool = False) -> Quantity | None:
    """A single number and what stands around it; nothing in front of it where it should be `bare`."""
    if not numerals:
        return None
    numeral, *others = numerals
    lead, rest = text[: numeral.start], text[numeral.end :]
    if re.search(r"\d", lead) or not _is_harmless_lead(lead, bare):
        return None
    if lead.rstrip().endswith("("):  # a bracket that was opened in front of the number
        rest = rest.replace(")", "", 1)
    unit = [CURRENCIES[numeral.currency]] if numeral.currency else []
    if attached := ATTACHED.match(rest):
        unit.append(unit_name(attached[0]))
        rest = rest[attached.end() :]
    elif re.match(r"\s*(?:percent|per cent|pct\.?|percentage points?)(?!\w)", rest, re.IGNORECASE):
        unit.append("percent")
        rest = re.sub(r"^\s*(?:percent|per cent|pct\.?|percentage points?)", "", rest, flags=re.IGNORECASE)
    elif square := re.match(r"\s*((?:[kcm]?m|in|ft|yd|mi)\^[23])(?![\w^])", rest):
        unit.append(square[1])
        rest = rest[square.end() :]
    elif symbol := re.match(r"\s*(%|¢|°[CF]?|[$€£¥₹](?!\s?\d))", rest):
        unit.append(unit_name(symbol[1]))
        rest = rest[symbol.end() :]
    if not re.match(r"\s|$|[,;.:)\]('\"!]|-[A-Za-z]|/\s?[A-Za-z]", rest) or rest.startswith(FACTORIAL):
        return None
    if coins := re.fullmatch(
        r",?(?: and)? (\d\d?) cents?", rest.partition("dollars")[2] or rest.partition("dollar")[2]
    ):
        return Quantity((numeral.value + Fraction(int(coins[1]), 100),), "", ("dollar",))
    if not _is_harmless_rest(
        rest, numeral, [one for one in others if one.start >= numeral.end], len(text) - len(rest)
    ):
        return None
    words = rest.partition("(")[0].split()
    if reference and (
        len(words) > 4 or any(word[:1].isupper() and unit_name(word) == word.casefold() for word in words)
    ):
        return None  # a title or a name ("12 Angry Men")
    return Quantity((numeral.value,), "", tuple(unit) + _unit_words(rest, all_words=reference))


def _is_harmless_lead(lead: str, bare: bool) -> bool:
    """Whether the words in front of a number only lead to it: nothing, `about`, `that he has`, `Janet makes`."""
    lead = lead.strip()
    if _BAD_LEAD.search(lead) or re.search(r"[\\^_<>≤≥≠√±+*×/()|~–—]|-$|[\[{].*\w", lead.rstrip("(")):
        return False
    while lead and (filler := _FILLER.search(lead)):
        if lead[filler.start()] == ":" and (filler.start() == 0 or lead[filler.start() - 1].isalpha()):
            return not bare  # "Final answer: 5"
        lead = lead[: filler.start()].rstrip()
    if not lead:
        return True
    if bare:
        return False
    lead = re.sub(r"(?<=\w)\s+(?:[A-Z][a-z]+|him|her|them|us|me|you|it)$", "", lead)  # "it will take Carla"
    words = [word.strip(",").casefold() for word in lead.split()]
    return words[-1] in _VERBS or (
        len(words) > 1 and (words[-2] in _AUXILIARY or re.search(r"[a-z]{2}(?:s|ed)$", words[-1]) is not None)
    )


def _is_harmless_rest(rest: str, numeral: Numeral, others: list[Numeral], offset: int) -> bool:
    """Whether what stands behind a number leaves it as it is: a unit, `per day`, `in total (2 + 3)`."""
    for bracket in re.finditer(r"\(([^()]*)\)?", rest):
        inside = bracket[1]
        values = [one.value for one in find_numerals(inside)]
        if re.search(r"\b(?:or|not|maybe|perhaps)\b", inside) or (
            (values or re.search(r"\d", inside))
            and not re.search(rf"\d\S*\s?{_OPERATOR}\s?[\d$(]", inside)
            and any(value != numeral.value for value in values)
        ):
            return False
    outside = re.sub(r"\([^()]*\)?", lambda match: " " * len(match[0]), rest)
    if (
        _BAD_REST.search(outside)
        or re.search(r"[^\w\s'\",.;:!?/°%$€£¥¢₹&#\]-]|^\s*:\s*\d", outside)
        or FACTORIAL in rest
    ):
        return False
    if re.match(r"\s*(?:of|out of|in|by|to|x|over|per|for)\s*$", outside):
        return False
    # Algebra: 5 x
    if (letter := re.match(r"\s*([A-Za-zα-ωΑ-Ω])(?![\w'])", outside)) and letter[1] not in "aImglshLVWNJKCF":
        return False
    if not numeral.figures and numeral.value == 1 and re.match(r"\s*of\b", outside):
        return False  # "one of the ..." counts nothing
    spelled = {"one", "a", "an", "half"}
    for other in others:
        start = other.start - offset
        word = outside[start : other.end - offset]
        before, behind = outside[:start], outside[other.end - offset :]
        if not word.strip() or (other.value == numeral.value and _THE_SAME.search(before)):
            continue
        if word.split(" ")[0].casefold() in spelled and not re.search(r"\b(?:and|plus|to)\s$", before):
            continue
        counted = re.match(r"\s*[A-Za-z]", before) and re.match(r"\s*-?[A-Za-z]", behind) is not None
        if not (counted and _CIRCUMSTANCE.search(before) and not re.search(r"[,;]", before)):
            return False
    figures = sum(len(re.findall(r"\d+", outside[one.start - offset : one.end - offset])) for one in others)
    return len(re.findall(r"\d+", outside)) <= figures  # none that is no number of its own, as in "5,6"


def _unit_words(rest: str, all_words: bool) -> tuple[str, ...]:
    """The unit behind a number; of a reference all words, since "5 km per hour" are no 5 km."""
    names = []
    for word in re.sub(r"\([^()]*\)?|[-,;.!?]\s|[-,;.!?]$|^-", " ", rest).split():
        if word.casefold() in FUNCTION_WORDS:
            if all_words:
                continue
            break
        if not re.search(r"[A-Za-z°%]", word):
            continue
        names += [name for name in unit_name(word).split("/") if name]
    return tuple(names)


def _read_pair(text: str, numerals: list[Numeral], reference: bool) -> Quantity | None:
    """`5-6`, `3:1`, `3:30 pm`, `5 and 6`, `between 5 and 6`, and nothing else but a unit."""
    if len(numerals) not in (1, 2):
        return None
    first = numerals[0]
    lead = text[: first.start].strip().casefold()
    if lead not in _PAIR_LEADS:
        return None
    if match := re.match(r"\s?(:)\s?(\d+)(?![\d:.,])", text[first.end :]):
        second, sign, end = Fraction(int(match[2])), ":", first.end + match.end()
    elif len(numerals) == 2:
        second, end = numerals[1].value, numerals[1].end
        sign = text[first.end : numerals[1].start].strip().casefold()
        if sign == "" and text[numerals[1].start] in "-–":
            second, sign = -second, "-"
    else:
        return None
    if sign not in _PAIR_SIGNS:
        return None
    rest = text[end:].strip(" .")
    if not re.fullmatch(r"[A-Za-z.%°$€£¥ ]*", rest) or re.search(_DENIAL + "|" + _DOUBT, rest):
        return None
    currencies = [CURRENCIES[one.currency] for one in numerals if one.currency][:1]
    return Quantity(
        (first.value, second), _PAIR_LEADS[lead] or _PAIR_SIGNS[sign], (*currencies, *_unit_words(rest, reference))
    )


def without_explanation(text: str) -> str:
    """An answer up to the words that explain it: `Paris, because ...`."""
    return re.split(r"\s*[,;(–—]?\s*\b(?:because|since)\b", text, maxsplit=1)[0]


def is_denied(text: str) -> bool:
    """Whether a text denies what it names, or leaves it open."""
    return re.search(f"{_DENIAL}|{_DOUBT}", text, re.IGNORECASE) is not None


# ---- comparing ----


def same_quantity(reference: Quantity, given: Quantity) -> bool:
    """
    Whether an answer is the reference: the same number in the same unit, or in none.

    Percent and cents are hundredths. Where one of the two has no unit, `50 %` and `50 cents` are 0.5 and 50 as well
    (the question says in what it counts), but `0.5 %` is no 0.5.
    """
    relations = {reference.relation, given.relation}
    if len(relations) == 2 and relations not in ({":", "to"}, {"-", "to"}):
        return False
    if reference.unit and given.unit and not _same_unit(reference.unit, given.unit):
        return False
    if reference.relation:
        return reference.numbers == given.numbers
    if reference.exact() == given.exact():
        return True
    as_written = reference.numbers == given.numbers and not (reference.unit and given.unit)
    return as_written and (abs(reference.numbers[0]) >= 1 or reference.hundredths)


def _same_unit(reference: tuple[str, ...], given: tuple[str, ...]) -> bool:
    if {reference[0], given[0]} == {"dollar", "cent"}:
        return True
    return set(reference) <= set(given)
