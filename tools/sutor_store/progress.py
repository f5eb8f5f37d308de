"""How far a long piece of work is, on stderr, as csrc/base/process/progress.h has it: on a terminal
a line that is rewritten at most five times a second, else a line a minute, the first after a minute
(SUTOR_PROGRESS_SECONDS: another time for both)."""

import os
import sys
import time

REWRITE, FIRST, LINE = 0.2, 0.5, 60.0  # seconds


def duration(seconds):
    """9m51s, 2h05m, 3d04h, 42s"""
    total = round(seconds)
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if days:
        return f"{days}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m{total % 60:02}s" if minutes else f"{total}s"


class Progress:
    """what: "prepare train"; the line is
    "prepare train: 12,345 rows, 1,234 rows/s, 45%, 3m10s left". quiet: says nothing."""

    def __init__(self, what, quiet=False, stream=None, now=time.monotonic):
        self._what = what
        self._stream = stream or sys.stderr
        self._now = now
        terminal = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._rewrites = terminal
        wanted = _wanted_seconds()
        self._interval = wanted or (REWRITE if terminal else LINE)
        self._begin = now()
        self._next = self._begin + (wanted or (FIRST if terminal else LINE))
        self._quiet = quiet
        self._shown = False
        self._before = None  # (rows, share) of the first call: what was there already

    def show(self, rows, share):
        """share: of the work that is done, from 0 to 1; None where nobody knows."""
        if self._quiet:
            return
        if self._before is None:
            self._before = (rows, share)
        now = self._now()
        if now < self._next:
            return
        self._next = now + self._interval
        line = self._text(rows, share, now - self._begin)
        if not self._rewrites:
            print(line, file=self._stream, flush=True)
            return
        width = _width(self._stream)
        print(f"\r{line[:width - 1]}\x1b[K", end="", file=self._stream, flush=True)
        self._shown = True

    def clear(self):
        """Removes the line of a terminal."""
        if self._shown:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
        self._shown = False

    def _text(self, rows, share, seconds):
        line = f"{self._what}: {rows:,} rows"
        rate = (rows - self._before[0]) / seconds if seconds > 0 else 0
        if rate > 0:
            line += f", {rate:,.0f} rows/s" if rate >= 10 else f", {rate:.1f} rows/s"
        if share is None:
            return line
        line += f", {int(100 * share)}%"
        done = share - (self._before[1] or 0)
        if done > 0:
            line += f", {duration((1 - share) * seconds / done)} left"
        return line


def _wanted_seconds():
    try:
        return max(float(os.environ.get("SUTOR_PROGRESS_SECONDS", "")), 0)
    except ValueError:
        return 0


def _width(stream):
    """Of the terminal; some do not tell."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        columns = 0
    return columns if columns > 1 else 80
