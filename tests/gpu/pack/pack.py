"""What check and step share: the programs of the archive, the time left, the table at the end."""

import os
import pathlib
import signal
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
NO_GPU = os.environ.get("SUTOR_NO_GPU", "")  # why none is measured; empty where one is
DEVICE = "cpu" if NO_GPU else "cuda"
LIMIT = 285  # seconds that a script may take
STARTED = time.monotonic()
# Small programs run side by side, as most of their time is to load libraries.
AT_ONCE = min(4, len(os.sched_getaffinity(0)))
SIDE_BY_SIDE = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)) // AT_ONCE)}


def seconds_left():
    return LIMIT - (time.monotonic() - STARTED)


class Done:
    """A program that ended, or was ended for its time: then `code` is None."""

    def __init__(self, code, text):
        self.code, self.text = code, text

    def why(self):
        """The line that says what went wrong."""
        if self.code is None:
            return "no time left"
        lines = [line for line in self.text.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        return f"exit code {self.code}: {(errors or lines or ['no output'])[-1].strip()[:200]}"


def run(command, seconds=None, **variables):
    """One of bin/, or what runs one, with the libraries of the archive."""
    environment = dict(os.environ, LD_LIBRARY_PATH=os.environ["SUTOR_LIBRARIES"], NO_COLOR="1")
    limit = min(seconds or LIMIT, seconds_left())
    if limit <= 0:
        return Done(None, "")
    process = subprocess.Popen([str(word) for word in command], text=True, errors="replace",
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, env=environment | variables,
                               start_new_session=True)
    try:
        text, _ = process.communicate(timeout=limit)
        return Done(process.returncode, text)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # what it started, too
        text, _ = process.communicate()
        return Done(None, text)


def sutor(*arguments, **variables):
    return run([HERE / "bin" / "sutor", *arguments], **variables)


class Table:
    """Rows, the last cell of which says `ok`, `FAILED: why` or `not measured: why`."""

    def __init__(self, *titles):
        self.rows = [titles]

    def row(self, *cells):
        self.rows.append([f"{cell:.2e}" if isinstance(cell, float) else str(cell)
                          for cell in cells])
        print("  ".join(self.rows[-1]), flush=True)

    def any_failed(self):
        return any(row[-1].startswith("FAILED") for row in self.rows[1:])

    def show(self):
        widths = [max(len(row[i]) for row in self.rows) for i in range(len(self.rows[0]))]
        print()
        for row in self.rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        print(f"{time.monotonic() - STARTED:.0f} s", flush=True)
