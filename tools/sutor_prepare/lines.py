"""Writes files of JSON lines, or of text, that are complete or do not exist."""

import contextlib
import json
import os
import secrets


def temporary_name(path):
    """Beside `path`; what a kill leaves under such a name, the next job in the folder removes."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")


def write_json_lines(path, rows):
    """Creates or replaces `path`, a line per row; makes missing folders. Returns the rows."""
    count = 0
    with _replacing(path) as stream:
        for row in rows:
            stream.write(_line(row))
            count += 1
    return count


def write_text(path, text):
    """The same for a text."""
    with _replacing(path) as stream:
        stream.write(text.encode("utf-8"))


@contextlib.contextmanager
def _replacing(path):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _line(row):
    try:
        return json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: not in UTF-8, but it can be escaped
        return json.dumps(row).encode("ascii") + b"\n"
