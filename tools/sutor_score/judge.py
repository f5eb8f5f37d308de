"""The judge scorer: a program of the user's says how good each completion is.

For each completion the program gets a line {"prompt", "raw_prediction", "raw_answers"} on stdin
(JSON in ASCII; raw_answers is a list of texts, which may be empty) and prints a line to stdout, in
the same order: a number from 0 to 1, or an object with one under `score`. It inherits stderr. It is
started without a shell, and killed, with what it started, when its time is over.
"""

import json
import os
import selectors
import shlex
import signal
import subprocess
import time

from sutor_prepare.errors import PrepareError
from sutor_prepare.limits import lift_limits


# Bytes that a judge may print: before the scores, and for each of them.
MOST_START, MOST_LINE = 1 << 16, 1 << 12


class Judge:
    def __init__(self, command, seconds):
        self._seconds = seconds
        self._shown = command
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise PrepareError(233, f"--judge {command}: {error}") from error
        if not self._command:
            raise PrepareError(233, "--judge is empty; give the judge's command line")

    def score(self, completions):
        lines = [line for line in self._ask(completions).split("\n") if line.strip()]
        if len(lines) != len(completions):
            self._fail(
                f"printed {len(lines):,} lines for {len(completions):,} completions; it must print "
                "one score a line, in their order"
            )
        scores = [
            self._score(line, number, completion.where)
            for number, (line, completion) in enumerate(zip(lines, completions), 1)
        ]
        return sum(scores) / len(scores), scores

    def _ask(self, completions):
        """What the judge prints about the completions."""
        questions = "".join(
            json.dumps(
                {
                    "prompt": completion.prompt,
                    "raw_prediction": completion.prediction,
                    "raw_answers": completion.answers,
                }
            )
            + "\n"
            for completion in completions
        )
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=lift_limits,
            )
        except OSError as error:
            raise PrepareError(
                233, f"the judge `{self._shown}` cannot be started: {error.strerror}"
            ) from error
        most = MOST_START + MOST_LINE * len(completions)
        try:
            printed = converse(process, questions.encode("ascii"), self._seconds, most)
        except BaseException as error:
            _stop(process)
            if isinstance(error, subprocess.TimeoutExpired):
                self._fail(
                    f"was not done with {len(completions):,} completions after "
                    f"{self._seconds:g} s and was stopped (--judge-timeout)"
                )
            raise
        if printed is None:
            _stop(process)
            raise PrepareError(
                504,
                f"the judge `{self._shown}` printed more than {most:,} bytes about "
                f"{len(completions):,} completions and was stopped; it must print one score a line",
            )
        code = process.returncode
        if code < 0:
            self._fail(f"was ended by signal {-code}")
        if code > 0:
            self._fail(f"ended with exit code {code}")
        return printed.decode("utf-8", errors="replace")

    def _score(self, line, number, where):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            value = value.get("score")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._fail(
                f"printed no score in line {number}, about {where}: `{line.strip()[:200]}`. Each "
                'line must be a number from 0 to 1, or an object like {"score": 0.5}'
            )
        if not 0 <= value <= 1:
            self._fail(
                f"gave the score {value} in line {number}, about {where}; it must be from 0 to 1"
            )
        return value

    def _fail(self, what):
        raise PrepareError(361, f"the judge `{self._shown}` {what}")


def converse(process, questions, seconds, most):
    """What a process prints when it gets these bytes; None as soon as that is more than `most`. It
    may close its input, or print before it has read. Raises subprocess.TimeoutExpired."""
    deadline = time.monotonic() + seconds
    printed, left = bytearray(), memoryview(questions)
    with selectors.DefaultSelector() as ready:
        for pipe, event in ((process.stdin, "write"), (process.stdout, "read")):
            os.set_blocking(pipe.fileno(), False)
            ready.register(pipe, getattr(selectors, f"EVENT_{event.upper()}"), event)
        while ready.get_map():
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise subprocess.TimeoutExpired(process.args, seconds)
            for key, _ in ready.select(wait):
                try:
                    if key.data == "read":
                        block = os.read(key.fd, 1 << 16)
                        ended = not block
                        printed += block
                    else:
                        left = left[os.write(key.fd, left[: 1 << 16]) :]
                        ended = not left
                except BlockingIOError:  # full again
                    continue
                except BrokenPipeError:  # it wants to know no more
                    ended = True
                if ended:
                    ready.unregister(key.fileobj)
                    key.fileobj.close()
            if len(printed) > most:
                return None
    process.wait(max(0.0, deadline - time.monotonic()))
    return bytes(printed)


def _stop(process):
    """Ends the judge and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
