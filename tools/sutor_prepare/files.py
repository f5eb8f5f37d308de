"""Opens inputs: regular files only, so that a pipe or a device is refused at once instead of being
waited for or read without end."""

import os
import stat

from .errors import PrepareError

MAX_TEXT = 64 << 20  # bytes of a tokenizer.json or a template, and of a line of rows

KINDS = {
    stat.S_IFDIR: "is a directory, not a regular file",
    stat.S_IFIFO: "is a pipe (a FIFO, or `<(...)` of a shell), not a regular file; inputs are read "
    "more than once, so save it to a file first",
    stat.S_IFSOCK: "is a socket, not a regular file",
}


def open_input(path, code):
    """The file, opened to read bytes without a buffer; `code` is that of the error."""
    try:
        found = os.stat(path).st_mode
        if not stat.S_ISREG(found):
            kind = KINDS.get(stat.S_IFMT(found), "is a device, not a regular file")
            raise PrepareError(code, f"{path} {kind}")
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        return os.fdopen(os.open(path, flags), "rb", buffering=0)
    except OSError as error:
        raise PrepareError(code, f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a name with a zero byte, or one that has no form in bytes
        raise PrepareError(code, f"{path!r} cannot be read: {error}") from error


def read_input(path, code, most=MAX_TEXT):
    """The bytes of a file of at most `most` of them."""
    with open_input(path, code) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise PrepareError(code, f"{path} has {size:,} bytes; at most {most:,} are expected")
        try:
            return b"".join(iter(lambda: stream.read(1 << 20), b""))[:most]
        except OSError as error:
            raise PrepareError(code, f"{path} cannot be read: {error.strerror}") from error


def read_text(path, code, most=MAX_TEXT):
    try:
        text = read_input(path, code, most).decode("utf-8")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise PrepareError(code, f"{path} is not UTF-8: byte {error.start}") from error
