"""The documents that are least like the others of their set, each with the reason.

Every measure is compared with its median, in units of the median distance from it; a document is as
odd as its oddest measure.
"""

import numpy as np

from .characters import HARMLESS, LETTERS, SCRIPT_NAMES, UNSEEN_NAMES

MOST = 10
FOR_ONE_REASON = 3
ENOUGH = 4.0  # median distances from the median


class _Measure:
    """least: a distance that is worth a word, where all others are equal."""

    def __init__(self, values, least, low, high):
        self.values = values
        self.median = float(np.median(values))
        distance = 1.4826 * float(np.median(np.abs(values - self.median)))
        self.oddness = (values - self.median) / max(distance, least)
        self._low, self._high = low, high

    def reason(self, number):
        return self._high if self.oddness[number] > 0 else self._low


def _measures(measures):
    tokens, characters = measures.tokens, measures.characters
    yield "length", _Measure(np.log2(tokens), 0.5, "{tokens:,} tokens, short for this set (median "
                             "{median_tokens:,})", "{tokens:,} tokens, long for this set (median "
                             "{median_tokens:,})")
    yield "share", _Measure(measures.trained / tokens, 0.1, "{share:.0%} of its tokens in the "
                            "loss, few for this set", "{share:.0%} of its tokens in the loss, "
                            "many for this set")
    yield "repetition", _Measure(measures.different, 0.1, "repeats itself: {different:.0%} of its "
                                 "runs of four tokens are different ones", "")
    if not characters.any():
        return
    rate = characters / tokens
    yield "rate", _Measure(np.log2(np.maximum(rate, 0.01)), 0.25, "{rate:.1f} characters a token, "
                           "few for this set: the tokenizer hardly knows such text",
                           "{rate:.1f} characters a token, many for this set")
    harmful = [i for i, name in enumerate(UNSEEN_NAMES) if name not in HARMLESS]
    unseen = measures.unseen[:, harmful].sum(axis=1)
    yield "unseen", _Measure(np.log2(1 + unseen), 0.2, "", "{unseen:,} characters that are not "
                             "seen, such as {unseen_kind}")
    letters = measures.scripts[:, LETTERS]
    usual = letters.sum(axis=0) / max(letters.sum(), 1) >= 0.01
    strange = letters[:, ~usual].sum(axis=1) / np.maximum(characters, 1)
    yield "script", _Measure(strange, 0.03, "", "in a script that is rare in this set: {script}")


def oddest(measures):
    """A list of (number of the document, reason)."""
    found = []
    for name, measure in _measures(measures):
        for number in np.argsort(-np.abs(measure.oddness), kind="stable")[:MOST].tolist():
            text = measure.reason(number)
            if text and abs(measure.oddness[number]) >= ENOUGH:
                found.append((-abs(float(measure.oddness[number])), number, name, text))
    chosen, reasons, used = [], {}, set()
    for _, number, name, text in sorted(found):
        if number in used or reasons.get(name, 0) == FOR_ONE_REASON:
            continue
        used.add(number)
        reasons[name] = reasons.get(name, 0) + 1
        chosen.append((number, text.format(**_words(measures, number))))
        if len(chosen) == MOST:
            break
    return chosen


def _words(measures, number):
    tokens = int(measures.tokens[number])
    letters = measures.scripts[number, LETTERS]
    total = measures.scripts[:, LETTERS].sum(axis=0)
    rare = np.where(total / max(total.sum(), 1) < 0.01, letters, 0)
    return {
        "tokens": tokens,
        "median_tokens": int(np.median(measures.tokens)),
        "share": measures.trained[number] / tokens,
        "different": measures.different[number],
        "rate": measures.characters[number] / tokens,
        "unseen": int(measures.unseen[number].sum()),
        "unseen_kind": UNSEEN_NAMES[int(np.argmax(measures.unseen[number]))],
        "script": SCRIPT_NAMES[LETTERS[int(np.argmax(rare))]],
    }
