"""Limits of time and memory for what foreign rows, templates and tokenizers make this program do.

SUTOR_ROW_SECONDS (5) is the processor time that one rendering of a chat template, or one row of a
scorer or a tokenizer, may take; SUTOR_STEP_MEMORY (8) the GiB of memory of a Python step. What goes
beyond ends with E0504, which names the row, instead of running for ever or filling the machine.
"""

import errno
import os
import resource
import signal
import sys
import threading
import time

from .errors import PrepareError

MIB = 1 << 20
BEFORE = resource.getrlimit(resource.RLIMIT_DATA)
PAGE = resource.getpagesize()
NEARLY = 32 * MIB  # so near below the limit, what fails may have failed for want of memory
GRACE = 2.0  # seconds after which what is over its time is ended by a signal


class OutOfTime(BaseException):
    """Of no Exception, so that nothing between the limit and the work catches it."""


def setting(name, default):
    text = os.environ.get(name) or default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise PrepareError(243, f"{name} is {text!r}; expected a number above 0")
    return value


def row_seconds():
    return setting("SUTOR_ROW_SECONDS", "5")


def limit_step():
    """Sets the limit of memory of the whole step. Returns it in GiB. A MemoryError where the step
    could not even begin with it: then is better than somewhere within an import."""
    gib = setting("SUTOR_STEP_MEMORY", "8")
    size = int(gib * 1024) * MIB
    if size < data_bytes() + NEARLY:
        raise MemoryError
    _limit_data(size)
    return gib


def lift_limits():
    """In a program that is about to start: our limits are not its."""
    resource.setrlimit(resource.RLIMIT_DATA, BEFORE)


def data_bytes():
    """What RLIMIT_DATA counts, but for the stack."""
    with open("/proc/self/statm", "rb") as stream:
        return int(stream.read().split()[5]) * PAGE


def is_out_of_memory(error):
    """True for a MemoryError, and for what the interpreter and its imports make of one when they
    have no memory left to report it: an OSError, a SystemError, an ImportError."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if not isinstance(error, (SystemError, ImportError)):
        return False
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return soft != resource.RLIM_INFINITY and data_bytes() + NEARLY > soft


def _limit_data(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = size if hard == resource.RLIM_INFINITY else min(size, hard)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    except (OSError, ValueError):
        pass  # a system without such limits
    return soft


class _Limit:
    """What may be used: processor seconds, and MiB more than now.

    what: begins the message, such as "the chat template"; where: "rows.jsonl:12" or "".
    """

    def __init__(self, what, where, seconds=None, mebibytes=256):
        self._what = what
        self._where = where
        self._seconds = row_seconds() if seconds is None else seconds
        self._mebibytes = mebibytes


class Limited(_Limit):
    """Limits Python code, and turns what it may end with (no time, no memory, too deep a recursion)
    into a PrepareError. Not to be nested."""

    _active = None

    def __enter__(self):
        signal.signal(signal.SIGPROF, Limited._ring)
        Limited._active = self
        self._soft = _limit_data(data_bytes() + self._mebibytes * MIB)
        # Again and again: code may be about to leave a block that holds the first one up.
        signal.setitimer(signal.ITIMER_PROF, self._seconds, 0.1)
        # Ends the program where it is in a library that the first signal cannot interrupt.
        signal.setitimer(signal.ITIMER_VIRTUAL, self._seconds + GRACE)
        return self

    def __exit__(self, kind, error, trace):
        Limited._active = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        short = is_out_of_memory(error)  # the limit is still this one's
        _limit_data(self._soft)
        if kind is None or issubclass(kind, PrepareError):
            return
        if issubclass(kind, OutOfTime):
            raise PrepareError(
                504,
                f"{self._what} took more than {self._seconds:g} s of processor time "
                "(SUTOR_ROW_SECONDS)",
                self._where,
            ) from None
        if short:
            raise PrepareError(
                504, f"{self._what} wants more than {self._mebibytes} MiB of memory", self._where
            ) from None
        if issubclass(kind, RecursionError):
            raise PrepareError(336, f"{self._what}: nested too deeply", self._where) from None

    @staticmethod
    def _ring(signum, frame):
        if Limited._active is not None:
            raise OutOfTime


class Watched(_Limit):
    """The same for calls into libraries that let other threads run but cannot be interrupted. What
    goes beyond ends the program, with the message, from a thread."""

    POLL = 0.05

    def __enter__(self):
        self._done = threading.Event()
        self._deadline = time.process_time() + self._seconds
        self._most = data_bytes() + self._mebibytes * MIB
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __exit__(self, kind, error, trace):
        self._done.set()
        self._thread.join()  # so that a process that forks has no other threads

    def _watch(self):
        while not self._done.wait(self.POLL):
            if time.process_time() > self._deadline:
                self._end_with(f"took more than {self._seconds:g} s of processor time")
            if data_bytes() > self._most:
                self._end_with(f"wants more than {self._mebibytes} MiB of memory")

    def _end_with(self, what):
        self.end(PrepareError(504, f"{self._what} {what}", self._where))

    @staticmethod
    def end(error):
        """Ends the process; a worker hands the error to the process that started it instead."""
        sys.stdout.flush()
        print(error.report(), file=sys.stderr, flush=True)
        os._exit(error.exit_code())
