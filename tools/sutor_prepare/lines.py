"""Writes files of JSON lines that are complete or do not exist."""

import json
import os
import secrets


def temporary_name(path):
    """Beside `path`; what a kill leaves under such a name, the next job in the folder removes."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")


def write_json_lines(path, rows):
    """Creates or replaces `path`, a line per row; makes missing folders. Returns the rows."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = temporary_name(path)
    count = 0
    try:
        with open(temporary, "wb") as stream:
            for row in rows:
                stream.write(_line(row))
                count += 1
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    return count


def _line(row):
    try:
        return json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: not in UTF-8, but it can be escaped
        return json.dumps(row).encode("ascii") + b"\n"
