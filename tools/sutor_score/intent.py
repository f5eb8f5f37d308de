"""The intent scorer: JSON of an intent and its slots, scored as the ESFT authors score it.

Of a prediction, blanks and full stops (. and 。) around it are dropped. Then the first ```json block
counts, whole or its first line, or where there is no block the first line that is not empty; again
without blanks and full stops around it. It scores 1 when it is a JSON object, its intent equals the
answer's, and so do its slots:

- spaces within predicted values do not count, but those of the answer do (the authors' rule);
- a list equals a list of the same texts in any order, repeats counted; its items are compared as
  texts, so 5 in a list equals "5" there;
- a predicted value that is neither text nor a list (a number, null, an object) scores 0, whatever
  the answer is;
- a missing intent counts as "", missing slots as none; keys beside the two do not count.

In one point this is kinder than the authors' program, which looks at the first line of a ```json
block only, and so gives 0 to JSON that is spread over lines there.
"""

import json

from sutor_prepare.errors import PrepareError

FENCE = "```"
STOPS = ".。"


def score(completion):
    """1 or 0 for a completion: the best over its answers."""
    wanted = [_reference(answer, completion.where) for answer in completion.answers]
    prediction = _prediction(completion.prediction)
    return max(_equals(prediction, each) for each in wanted)


def _prediction(text):
    """The value in a prediction; None when there is none."""
    text = _tidy(text)
    _, opening, block = text.partition(FENCE + "json")
    if not opening:
        return _parsed(_first_line(text))
    block, closing, _ = block.partition(FENCE)
    if not closing:
        return None
    whole = _parsed(_tidy(block))
    return _parsed(_first_line(block)) if whole is None else whole


def _first_line(text):
    return _tidy(next((line for line in text.split("\n") if line.strip()), ""))


def _tidy(text):
    """Without blanks and full stops at both ends, in any order."""
    begin, end = 0, len(text)
    while begin < end and (text[begin].isspace() or text[begin] in STOPS):
        begin += 1
    while begin < end and (text[end - 1].isspace() or text[end - 1] in STOPS):
        end -= 1
    return text[begin:end]


def _parsed(text):
    """The value of a JSON text; None when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _reference(answer, where):
    parsed = _parsed(_tidy(answer))
    if isinstance(parsed, dict) and isinstance(parsed.get("slots", {}), dict):
        return parsed
    raise PrepareError(
        360,
        "scorer intent: the answer is no JSON object of `intent` and `slots`: "
        f"{answer if len(answer) <= 200 else answer[:200] + ' ...'}",
        where,
    )


def _equals(prediction, reference):
    if not isinstance(prediction, dict):
        return 0
    slots = prediction.get("slots", {})
    if not isinstance(slots, dict):
        return 0
    if any(not isinstance(value, (str, list)) for value in slots.values()):
        return 0
    same_intent = prediction.get("intent", "") == reference.get("intent", "")
    predicted = {key: _comparable(value, spaces=False) for key, value in slots.items()}
    wanted = {key: _comparable(value) for key, value in reference.get("slots", {}).items()}
    return int(same_intent and predicted == wanted)


def _comparable(value, spaces=True):
    if isinstance(value, list):
        return tuple(sorted(_text(str(item), spaces) for item in value))
    return _text(value, spaces) if isinstance(value, str) else value


def _text(text, spaces):
    return text if spaces else text.replace(" ", "")
