"""The numeric scorer: whether the last number of a prediction is the last one of the answer.

As for GSM8K, where the answer ends with `#### 42`. Commas between thousands, currency signs,
percent signs and full stops are no part of a number: "$1,234.50." equals 1234.5, and "50%" equals
50; full-width digits and signs (１２％) are read as plain ones. "3/4" is a fraction. "2-5" ends with
5, as a minus sign does not stand right behind a digit, a letter or a bracket; nor is the dash of a
list ("- 5 apples") a minus. Numbers are compared exactly.
"""

import fractions
import re

from sutor_prepare.errors import PrepareError

CURRENCY = "$€£¥₹"
NUMBER = re.compile(
    rf"""(?P<minus> (?<![\w)\]]) - )?
        (?: [{CURRENCY}] \s? )?
        (?P<inner> (?<=[{CURRENCY}]) - )?  # "$-5"
        (?P<value>
            (?<![/0-9.]) [0-9]+ / [0-9]+ (?![/0-9])
            | (?: [0-9]{{1,3}} (?: ,[0-9]{{3}} )+ (?![0-9]) | [0-9]+ ) (?: \.[0-9]+ )?
            | (?<![\w.]) \.[0-9]+
        )
        (?P<exponent> [eE] [+-]? [0-9]{{1,3}} (?!\w) )?""",
    re.VERBOSE,
)
MOST_DIGITS = 1000  # a model that repeats itself writes more; nobody means such a number
# Full-width forms of ASCII, and the other signs that stand for a minus.
PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {ord(c): "-" for c in "−‐‑–"}


def score(completion):
    """1 or 0 for a completion: the best over its answers."""
    wanted = []
    for answer in completion.answers:
        number = last_number(answer)
        if number is None:
            raise PrepareError(
                360, f"scorer numeric: no number in the answer {answer[:200]!r}", completion.where
            )
        wanted.append(number)
    return int(last_number(completion.prediction) in wanted)


def last_number(text):
    """As a fraction; None when there is none, or one that is no number any more."""
    match = None
    for match in NUMBER.finditer(text.translate(PLAIN)):
        pass
    if match is None or len(match["value"]) > MOST_DIGITS:
        return None
    value = match["value"].replace(",", "")
    try:
        number = fractions.Fraction(value + (match["exponent"] or ""))
    except (ValueError, ZeroDivisionError):  # 3/4e5, 3/0
        return None
    return -number if match["minus"] or match["inner"] else number
