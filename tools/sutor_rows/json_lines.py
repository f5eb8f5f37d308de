"""JSON lines -> (where, bytes), and the row of such bytes."""

import gc
import json
import re

from sutor_prepare.errors import PrepareError
from sutor_prepare.files import MAX_TEXT
from sutor_prepare.limits import Limited

from .values import kind_of

LONG_LINE = 1 << 20  # beyond it the parser of JSON is limited
BLANKS = re.compile(rb"[ \t\r\n\x0b\x0c]*")


def json_lines(path, blocks):
    """(where, bytes) of every line that is not blank, the error of one that is too long."""
    for number, line in _lines(blocks):
        where = f"{path}:{number}"
        if line is None:
            line = PrepareError(336, f"the line has more than {MAX_TEXT:,} bytes", where)
        yield where, line


def _lines(blocks):
    """(number, bytes) of lines that are not blank; None for the bytes of one that is too long. The
    file is never in memory whole."""
    parts, size, number = [], 0, 1  # of a line that has not ended
    for block in blocks:
        if size <= MAX_TEXT or b"\n" in block:
            parts.append(block)
        size += len(block)
        if b"\n" not in block:
            continue
        buffer, at = b"".join(parts), 0
        if size > MAX_TEXT + len(block):
            at = buffer.find(b"\n") + 1
            yield number, None
            number += 1
        while True:
            blanks = BLANKS.match(buffer, at).end()
            number += buffer.count(b"\n", at, blanks)
            at = max(at, buffer.rfind(b"\n", at, blanks) + 1)  # where the line begins
            end = buffer.find(b"\n", blanks)
            if end < 0:
                break
            yield number, buffer[at:end] if end - at <= MAX_TEXT else None
            number, at = number + 1, end + 1
        parts, size = [buffer[at:]], len(buffer) - at
    last = b"".join(parts)
    if size > MAX_TEXT:
        yield number, None
    elif last.strip():
        yield number, last


def parse_row(line, where):
    """The object that UTF-8 bytes hold."""
    try:
        if len(line) < LONG_LINE:
            row = json.loads(line.decode("utf-8"))
        else:
            gc.disable()  # it would look at all values again and again
            with Limited("the row", where, mebibytes=640):
                row = json.loads(line.decode("utf-8"))
    except RecursionError as error:
        raise PrepareError(336, "the row is nested too deeply", where) from error
    except UnicodeDecodeError as error:
        raise not_utf8(line[error.start], error.start, "line", where) from error
    except ValueError as error:
        raise PrepareError(
            336, f"not a JSON object on one line: {error}. Rows are JSON lines", where
        ) from error
    finally:
        gc.enable()
    if not isinstance(row, dict):
        raise PrepareError(336, f"expected a JSON object, got {kind_of(row)}", where)
    return row


def not_utf8(byte, position, unit, where):
    return PrepareError(
        337,
        f"not UTF-8: byte 0x{byte:02x} at position {position} of the {unit}. Convert the file, for "
        "example with `iconv -t UTF-8`",
        where,
    )
