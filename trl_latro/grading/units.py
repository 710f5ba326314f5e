# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What stands around a number and is no number: currencies and units, each by one name."""

import re


CURRENCIES = {
    "$": "dollar",
    "US$": "dollar",
    "USD": "dollar",
    "US $": "dollar",
    "AU$": "dollar",
    "A$": "dollar",
    "CA$": "dollar",
    "C$": "dollar",
    "NZ$": "dollar",
    "HK$": "dollar",
    "S$": "dollar",
    "CAD": "dollar",
    "AUD": "dollar",
    "€": "euro",
    "EUR": "euro",
    "£": "pound",
    "GBP": "pound",
    "¥": "yen",
    "JPY": "yen",
    "₹": "rupee",
    "INR": "rupee",
    "Rs.": "rupee",
    "Rs": "rupee",
    "₽": "ruble",
    "₩": "won",
    "CHF": "franc",
    "¢": "cent",
}
_NAMES = CURRENCIES | {
    "%": "percent",
    "pct": "percent",
    "buck": "dollar",
    "lb": "pound",
    "km": "kilometer",
    "m": "meter",
    "cm": "centimeter",
    "mm": "millimeter",
    "mi": "mile",
    "ft": "foot",
    "feet": "foot",
    "yd": "yard",
    "inches": "inch",
    "kg": "kilogram",
    "g": "gram",
    "mg": "milligram",
    "oz": "ounce",
    "l": "liter",
    "ml": "milliliter",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "metre": "meter",
    "kilometre": "kilometer",
    "centimetre": "centimeter",
    "millimetre": "millimeter",
    "litre": "liter",
    "mph": "mile/hour",
    "kmh": "kilometer/hour",
    "kph": "kilometer/hour",
    "km/h": "kilometer/hour",
    "°": "degree",
    "°c": "celsius",
    "°f": "fahrenheit",
    "a.m": "am",
    "p.m": "pm",
    "people": "person",
    "children": "child",
    "men": "man",
    "women": "woman",
    "mice": "mouse",
    "geese": "goose",
    "teeth": "tooth",
}
# Units that may stand directly behind a number, without a space
ATTACHED = re.compile(
    r"(?:[kcmµ]?m|[kmµ]?g|[kmc]?[lL]|[kM]?W|kWh|[kM]?Hz|[kMGT]B|lbs?|oz|ft|in|yds?|mi|mph|km/h|kph|m/s|hrs?|h|mins?|s|secs?"
    r"|ms|am|pm|[ap]\.m\.?|°[CFcf]?|%|¢|[$€£¥₹]|USD|EUR|GBP|cents?|dollars?|euros?|percent)(?:[²³]|\^[23])?(?![\w$€£])"
)
# Words that belong to no unit: behind them it is over
FUNCTION_WORDS = frozenset(
    "per each every a an the in on at for of to from with by total altogether overall left remaining more fewer less "
    "and or is are was were will would can has have had he she it they we i you that which who this each all both "
    "because since as so when where while after before during if not only now today there their his her its".split()
)


def unit_name(word: str) -> str:
    """
    One name for a unit's forms.

    Example:
    ```python
    >>> [unit_name(word) for word in ("$", "Dollars", "km", "feet", "boxes", "apples")]
    ['dollar', 'dollar', 'kilometer', 'foot', 'box', 'apple']

    ```
    """
    word = word.strip(".,;:!?()'\"")
    for form in (word, word.casefold(), re.sub(r"s$", "", word.casefold())):
        if form in _NAMES:
            return _NAMES[form]
    word = word.casefold()
    if re.search(r"(?:sh|ch|x|ss|z)es$", word):
        return word[:-2]
    if re.search(r"[^aeiou]ies$", word):
        return word[:-3] + "y"
    return word[:-1] if re.search(r"[^su]s$", word) else word
