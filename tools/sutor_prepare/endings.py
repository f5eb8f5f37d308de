"""How an error ends a step: the line that is printed, and the exit code."""

import os
import sys

from .errors import PrepareError
from .limits import OutOfTime, is_out_of_memory, setting


class StepEnd(Exception):
    """An error of a worker as its line and exit code."""

    def __init__(self, line, code):
        super().__init__(line)
        self.line = line
        self.code = code


# What has a message of its own; all else is a library's exception or panic, or a fault of ours.
EXPECTED = (StepEnd, PrepareError, ImportError, OSError, OutOfTime, MemoryError, KeyboardInterrupt)


def _system_text(error):
    """"runs/tokens: Not a directory", without the number that nobody knows."""
    name = error.filename
    if name is None or error.strerror is None:
        return str(error)
    name = os.fsdecode(name) if isinstance(name, (str, bytes)) else str(name)
    text = f"{name} cannot be made or written: {error.strerror}"
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        text += ". A file stands where a folder should be: set another `output`, or move it away"
    elif isinstance(error, PermissionError) or error.errno == 30:  # a read-only file system
        text += ". Set an `output` where you may write"
    return text


def is_unexpected(error):
    return not isinstance(error, EXPECTED)


def ending_of(error, packages="all packages of this step"):
    """(line, exit code) of whatever ended a step; the line may be empty."""
    if isinstance(error, StepEnd):
        return error.line, error.code
    if isinstance(error, PrepareError):
        return error.report(), error.exit_code()
    if is_out_of_memory(error):
        gib = setting("SUTOR_STEP_MEMORY", "8")
        return (
            f"error[E0504]: out of memory: the step may have {gib:g} GiB (SUTOR_STEP_MEMORY)",
            5,
        )
    if isinstance(error, ImportError):
        return (
            f"error[E0232]: {sys.executable} lacks the package {error.name}. Run "
            f"`bash tools/setup.sh`, or set SUTOR_PYTHON to a Python with {packages}",
            2,
        )
    if isinstance(error, OSError):
        code = "E0501" if error.errno in (28, 122) else "E0502"  # no space, quota
        return f"error[{code}]: {_system_text(error)}", 5
    if isinstance(error, OutOfTime):
        return "error[E0504]: out of processor time (SUTOR_ROW_SECONDS)", 5
    if isinstance(error, KeyboardInterrupt):
        return "", 130
    text = " ".join(str(error).split())[:1000]
    return (
        f"error[E0336]: {type(error).__name__}: {text}. The data, the tokenizer or the template "
        "hold something that this program does not expect (SUTOR_TRACEBACK=1 shows where)",
        3,
    )
