"""A file that is one JSON value, or several: a list of rows, an object around such a list, or rows
one after the other, on as many lines as they like. One row is in memory at a time."""

import codecs
import gc
import json
import re

from sutor_prepare.errors import PrepareError
from sutor_prepare.files import MAX_TEXT
from sutor_prepare.limits import Limited

from .json_lines import LONG_LINE, not_utf8
from .values import kind_of

# Keys of an object that holds the rows in a list; any other object is a row itself.
ROWS_UNDER = ("data", "rows", "train", "examples", "instances")
BLANKS = re.compile(r"[ \t\r\n]*")
AROUND = re.compile(r'\{\s*"(?:%s)"\s*:\s*\[\s*(?=\{)' % "|".join(ROWS_UNDER))
OPENING = 4096  # characters within which a list of rows begins
READ = 1 << 20


class _Text:
    """Decoded text of which the beginning is taken away value by value."""

    def __init__(self, path, blocks):
        self._path = path
        self._blocks = iter(blocks)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._bytes = 0
        self._ended = False
        self._text = ""
        self._at = 0
        self._json = json.JSONDecoder()

    def _more(self, least):
        """Whether there was more; at least so many characters of it, where there are so many."""
        parts, count = [self._text[self._at :]], 0
        while count < least and not self._ended:
            block = next(self._blocks, b"")
            self._ended = not block
            try:
                part = self._decoder.decode(block, final=self._ended)
            except UnicodeDecodeError as error:
                byte, position = error.object[error.start], self._bytes + error.start
                raise not_utf8(byte, position, "file", self._path) from error
            self._bytes += len(block)
            parts.append(part)
            count += len(part)
        self._text, self._at = "".join(parts), 0
        return count > 0

    def next_sign(self):
        """The next character that is not blank; "" at the end. It is not taken."""
        while True:
            self._at = BLANKS.match(self._text, self._at).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(1):
                return ""

    def take(self, sign):
        """Takes this character when it is next."""
        found = self.next_sign() == sign
        self._at += found
        return found

    def take_opening(self, pattern):
        """Takes what the pattern matches next, within some characters."""
        while len(self._text) - self._at < OPENING and self._more(OPENING):
            pass
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found is not None

    def value(self, where):
        """The next value."""
        self.next_sign()
        while True:
            left = len(self._text) - self._at
            try:
                value, end = self._decode(left, where)
                # A number may go on behind what there is.
                if end < len(self._text) or not self._more(1):
                    self._at = end
                    return value
                continue
            except RecursionError as error:
                raise PrepareError(336, "the row is nested too deeply", where) from error
            except ValueError as error:
                # It may only lack its end: what there is doubles, so that no byte is looked at
                # more than a few times.
                if left > MAX_TEXT:
                    raise PrepareError(
                        336, f"the row has more than {MAX_TEXT:,} characters", where
                    ) from error
                if not self._more(max(READ, left)):
                    raise PrepareError(
                        336,
                        f"not JSON: {getattr(error, 'msg', error)}. Nothing behind it can be read",
                        where,
                    ) from error

    def _decode(self, left, where):
        if left < LONG_LINE:
            return self._json.raw_decode(self._text, self._at)
        gc.disable()  # it would look at all values again and again
        try:
            with Limited("the row", where, mebibytes=640):
                return self._json.raw_decode(self._text, self._at)
        finally:
            gc.enable()


class _Values:
    """(where, row or error) of every row of a text."""

    def __init__(self, path, text):
        self._path = path
        self._text = text
        self._number = 0

    def rows(self):
        while self._text.next_sign():
            if self._text.take("["):
                yield from self._list()
            elif self._text.take_opening(AROUND):
                yield from self._list()
                self._rest_of_object()
            else:
                value = self._text.value(self._next())
                held = _rows_held(value)
                if held is None:
                    yield self._row(value)
                for each in held or []:
                    yield self._row(each)

    def _next(self):
        return f"{self._path}: row {self._number + 1}"

    def _row(self, value):
        where = self._next()
        self._number += 1
        if isinstance(value, dict):
            return where, value
        return where, PrepareError(336, f"expected a JSON object, got {kind_of(value)}", where)

    def _list(self):
        """Behind its bracket."""
        while not self._text.take("]"):
            yield self._row(self._text.value(self._next()))
            self._comma_or("]")

    def _rest_of_object(self):
        """The keys behind the list of rows."""
        self._comma_or("}")
        while not self._text.take("}"):
            self._text.value(self._next())
            if not self._text.take(":"):
                raise PrepareError(336, "not JSON: expected `:` behind a key", self._next())
            self._text.value(self._next())
            self._comma_or("}")

    def _comma_or(self, end):
        if not self._text.take(",") and self._text.next_sign() != end:
            where = f"{self._path}: row {self._number}"
            raise PrepareError(336, f"not JSON: expected `,` or `{end}` behind the row", where)


def json_values(path, blocks):
    return _Values(path, _Text(path, blocks)).rows()


def _rows_held(value):
    """The list of rows in an object around it, with other keys before it; None for a row."""
    if not isinstance(value, dict):
        return None
    lists = [value[key] for key in ROWS_UNDER if isinstance(value.get(key), list)]
    held = lists[0] if len(lists) == 1 else []
    return held if held and all(isinstance(each, dict) for each in held) else None
