"""A spreadsheet's number and its number format -> the text that a person sees. Knows nothing about cells or files.

Formats: ECMA-376-1, 18.8.31 (numFmts). Dates are written as ISO 8601 with as much as the format shows: the order
of day and month would otherwise depend on where the reader is.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import lru_cache
from typing import NamedTuple

BUILT_IN = {
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    14: "yyyy-mm-dd",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: "yyyy-mm-dd h:mm",
    37: "#,##0;(#,##0)",
    38: "#,##0;(#,##0)",
    39: "#,##0.00;(#,##0.00)",
    40: "#,##0.00;(#,##0.00)",
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss",
    48: "##0.0E+0",
    **dict.fromkeys((*range(27, 37), *range(50, 59)), "yyyy-mm-dd"),
}
"""Formats that a file names by number alone (ECMA-376-1, 18.8.30); 27-36 and 50-58 are East Asian dates."""

_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"?|\\(?P<escaped>.)|(?P<skipped>_.|\*.)|\[\$(?P<currency>[^\]-]*)[^\]]*\]'
    r"|\[(?P<elapsed>[hms]+)\]|(?P<bracket>\[[^\]]*\])|(?P<general>General)|(?P<plain>.)",
    re.IGNORECASE | re.DOTALL,
)
_SECTION = re.compile(r'(?:"[^"]*"?|\\.|\[[^\]]*\]|[^;])*')
_MINUTES = re.compile(r"h+[^a-z]*m{1,2}(?!m)|(?<!m)m{1,2}[^a-z]*s", re.IGNORECASE)
_DIGITS = frozenset("0#?")
_EXPONENT = re.compile(r"E[+-]", re.IGNORECASE)
_LAST_DAY = 2_958_466
"""The first day after 9999-12-31."""
_LITERAL = "\x00"
"""Stands in a section's codes for text that is shown as it is."""


class _Format(NamedTuple):
    codes: str
    """One character each, `_LITERAL` for every literal."""
    texts: tuple[str, ...]
    """What each of them shows where it stands for itself."""
    elapsed: bool


def shown(value: float, code: str, from_1904: bool = False) -> str:
    """The number as its format shows it; as it is where the format has nothing to say."""
    if not math.isfinite(value):
        return str(value)
    sections = _sections(code)
    if sections is None:
        return general(value)
    index = 1 if value < 0 and len(sections) > 1 else 2 if value == 0 and len(sections) > 2 else 0
    section = sections[index]
    if _is_date(section):
        return _date(value, section, from_1904)
    return _number(abs(value) if index == 1 else value, section)


def general(value: float) -> str:
    """The number without a format: what a person typed, not the nearest binary fraction."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.15g}"


@lru_cache(maxsize=1024)
def _sections(code: str) -> list[_Format] | None:
    """The sections for positive, negative and zero values; None where the value shows as it is."""
    if not code or code == "@" or code.lower() == "general" or re.search(r"\[[<>=]", code):
        return None
    parts, at = [], 0
    while at <= len(code):
        found = _SECTION.match(code, at)
        assert found is not None
        parts.append(found.group())
        at = found.end() + 1
    return [_tokens(part) for part in parts[:3]]


def _tokens(section: str) -> _Format:
    codes, texts, elapsed = "", [], False
    for found in _TOKEN.finditer(section):
        kind = found.lastgroup or ""
        text = found.group(kind)
        if kind in ("quoted", "escaped", "currency"):
            codes += _LITERAL
            texts.append(text)
        elif kind in ("elapsed", "plain", "general"):
            codes += "G" if kind == "general" else text
            texts.extend("G" if kind == "general" else text)
            elapsed = elapsed or kind == "elapsed"
    return _Format(codes, tuple(texts), elapsed)


def _is_date(section: _Format) -> bool:
    return any(char in "ymdhs" for char in section.codes.lower())


def _date(value: float, section: _Format, from_1904: bool) -> str:
    end = _LAST_DAY - 1462 * from_1904
    if not -section.elapsed * end <= value < end:
        return general(value)
    codes, seconds = section.codes.lower(), min(round(value * 86_400), end * 86_400 - 1)
    if section.elapsed:
        sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    # Day 60 is a 29 February 1900 that never was.
    start = datetime(1904, 1, 1) if from_1904 else datetime(1899, 12, 31 if value < 60 else 30)
    moment = start + timedelta(seconds=seconds)
    return " ".join(filter(None, (_day(moment, codes), _time(moment, codes))))


def _day(moment: datetime, codes: str) -> str:
    month = "m" in _MINUTES.sub("", codes.replace("am/pm", "").replace("a/p", ""))
    if "d" in codes:
        return f"{moment:%Y-%m-%d}"
    if "y" in codes:
        return f"{moment.year}-{moment.month:02}" if month else str(moment.year)
    return calendar.month_name[moment.month] if month and "h" not in codes and "s" not in codes else ""


def _time(moment: datetime, codes: str) -> str:
    if "s" in codes:
        return f"{moment:%H:%M:%S}"
    return f"{moment:%H:%M}" if "h" in codes else ""


def _number(value: float, section: _Format) -> str:
    """The digits, set among the section's literals."""
    codes, texts = section.codes, section.texts
    if "G" in codes or "@" in codes:
        return "".join(
            general(value) if code in "G@" else text for code, text in zip(codes, texts, strict=True)
        ).strip()
    digits = [at for at, char in enumerate(codes) if char in _DIGITS]
    if not digits:
        return "".join(texts).strip()
    first, last = digits[0], digits[-1] + 1
    last += len(codes[last:]) - len(codes[last:].lstrip(".,"))
    core = codes[first:last]
    if "/" in core:
        return general(value)
    number = abs(Decimal(repr(float(value)))).scaleb(2 * codes.count("%"))
    is_mask = not set(_EXPONENT.sub("", core)) <= _DIGITS | {".", ","}
    body = _masked(number, core, texts[first:last]) if is_mask else _digits(number, core)
    sign = "-" if value < 0 and any(char in "123456789" for char in body) else ""
    return f"{sign}{''.join(texts[:first])}{body}{''.join(texts[last:])}".strip()


def _digits(number: Decimal, core: str) -> str:
    mantissa, exponent, _ = core.upper().partition("E")
    whole, _, fraction = mantissa.partition(".")
    decimals = sum(char in _DIGITS for char in fraction)
    if exponent:
        return f"{float(number):.{decimals}E}"
    number = number.scaleb(-3 * (len(mantissa) - len(mantissa.rstrip(","))))
    left, _, right = _rounded(number, decimals).partition(".")
    left = left.lstrip("0")
    if "," in whole.rstrip(",") and left:
        left = f"{int(left):,}"
    fixed = fraction.count("0")
    right = right[:fixed] + right[fixed:].rstrip("0")
    left = left.zfill(whole.count("0"))
    return f"{left}.{right}" if right else left


def _rounded(number: Decimal, decimals: int) -> str:
    """Half away from zero, as spreadsheets do."""
    with localcontext() as context:
        context.prec = 400
        return f"{number.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP):f}"


def _masked(number: Decimal, core: str, texts: Sequence[str]) -> str:
    """Digits from the right into a mask such as `000-00-0000`; what it has no room for goes in front."""
    digits = list(_rounded(number, 0).zfill(core.count("0")))
    out: list[str] = []
    for code, text in zip(reversed(core), reversed(texts), strict=True):
        out.append((digits.pop() if digits else "") if code in _DIGITS else text)
    return "".join(digits) + "".join(reversed(out))
