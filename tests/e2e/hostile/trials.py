"""Starts the program on hostile input and says what came of it: how it ended, with how much time of
a processor and memory."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading

SECONDS = 10  # of a processor: a busy machine makes nothing fail
HANGS = 90  # seconds of a clock, after which nothing goes on any more
BYTES = 1 << 30
ERROR = re.compile(r"error\[E\d{4}\]|^ *E\d{4}: |^ *valid +NO: ")
DOCUMENTED = {1, 2, 3, 4, 5, 6, 7}


class Outcome:
    def __init__(self, code, text, seconds, peak):
        self.code, self.text, self.seconds, self.peak = code, text, seconds, peak

    def errors(self):
        """Lines of errors, and those in which a report says what is wrong."""
        return [line for line in self.text.splitlines() if ERROR.search(line)]

    def problem(self, allowed=frozenset(), words=""):
        """Why this is no end that a stranger's file may have; "" when it is one."""
        if self.seconds > SECONDS:
            return f"{self.seconds:.1f} s of processor time"
        if self.code == -signal.SIGKILL:
            return f"still running after {HANGS} s"
        if self.peak > BYTES:
            return f"{self.peak >> 20} MiB"
        if "Traceback" in self.text:
            return "a traceback"
        if self.code in allowed:
            return ""
        if self.code not in DOCUMENTED:
            return f"exit code {self.code}"
        if not self.errors() or self.text.count("error[E") > 1:  # a report may list several
            return f"{len(self.errors())} errors"
        if "error[E7" in self.text and "error[E701]" not in self.text:
            return "an internal error"
        return "" if words in self.text else f"not a word of `{words}`"


def attempt(command, folder, env=None):
    """Runs a command to its end or its limit of time."""
    output = folder / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=file,
            stderr=file, start_new_session=True,
            env=dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1") | (env or {}))
        timer = threading.Timer(HANGS, lambda: os.killpg(process.pid, signal.SIGKILL))
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    text = output.read_bytes()[-20000:].decode("utf-8", errors="replace")
    seconds = usage.ru_utime + usage.ru_stime
    return Outcome(process.returncode, text, seconds, usage.ru_maxrss << 10)


def place(path, kind):
    """Puts something that is no file in the place of one."""
    path = pathlib.Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path.name)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            here = os.open(path.parent, os.O_RDONLY)  # names of sockets are short
            try:
                made.bind(f"/proc/self/fd/{here}/{path.name}")
            finally:
                os.close(here)
    elif kind == "huge":
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        raise ValueError(kind)
