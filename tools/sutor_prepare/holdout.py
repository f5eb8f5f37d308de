"""Which rows of a training set are held out for evaluation: a pure function of a row's content.

The same content is on the same side wherever it stands, however often, and whatever rows are added;
what only describes a row (its id, its source, its length) or switches training does not count.
"""

import hashlib
import json

from .errors import PrepareError

# Keys that hold what a row says, of every form of rows. A row without any counts whole.
CONTENT = frozenset((
    "messages", "conversations", "conversation", "dialogue", "system", "tools", "prompt",
    "completion", "chosen", "raw_answers", "answers", "instruction", "input", "output", "query",
    "question", "response", "answer", "history", "text", "content", "input_ids",
))
# Keys of a message that only say whether it trains.
SWITCHES = frozenset(("mask", "train", "training", "weight", "loss"))

TRAIN, HELD_OUT = "train", "held_out"


def content_of(row):
    content = {key: value for key, value in row.items() if key in CONTENT and value is not None}
    return _stripped(content or row)


def _stripped(value):
    """Without what is null, private or a switch."""
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _stripped(item) for key, item in value.items()
            if item is not None and not key.startswith("_") and not _is_switch(key, item)}


def _is_switch(key, value):
    return key in SWITCHES and isinstance(value, (bool, int, float))


def fraction_of(content):
    """A number in [0, 1), uniform over contents."""
    # str: values that JSON lacks, of tables (times, bytes).
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2.0**64


class Side:
    """The side of a split that a token store holds. source: its spec in the job, with `share` and
    `side` where rows are held out."""

    def __init__(self, source):
        self._path = source["path"]
        self._share = source.get("share")
        self._side = source.get("side", TRAIN)

    def has(self, row):
        if self._share is None:
            return True
        try:
            is_held_out = fraction_of(content_of(row)) < self._share
        except RecursionError:
            is_held_out = False  # whoever reads the row says what is wrong with it
        return is_held_out == (self._side == HELD_OUT)

    def options(self):
        """For the attributes of the store: of what it was made."""
        return {} if self._share is None else {"share": self._share, "side": self._side}

    def require_rows(self, found, rows):
        """found: how many of all rows are on this side."""
        if found or self._share is None:
            return
        what = f"{self._path}: data.eval holds out the share {self._share:.6g}"
        if self._side == TRAIN:
            raise PrepareError(334, f"{what} by the hash of the rows' content, which is all of its "
                                    f"{rows} rows: nothing is left to train on. Lower the share")
        raise PrepareError(334, f"{what}, but by the hash of their content none of its {rows} rows "
                                "falls into it. Raise the share, or name a file in data.eval")

    def note(self, found, rows):
        """Of the summary; empty where nothing is held out."""
        if self._share is None:
            return ""
        what = "held out" if self._side == HELD_OUT else "kept to train"
        return f"{found:,} of the {rows:,} rows are {what} (data.eval share {self._share:.6g})"
