"""The judge scorer: a program of the user's says how good each completion is.

For each completion the program gets a line {"prompt", "raw_prediction", "raw_answers"} on stdin
(JSON in ASCII; raw_answers is a list of texts, which may be empty) and prints a line to stdout, in
the same order: a number from 0 to 1, or an object with one under `score`. It inherits stderr. It is
started without a shell, and killed, with what it started, when its time is over.
"""

import json
import os
import shlex
import signal
import subprocess

from sutor_prepare.errors import PrepareError


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
            )
        except OSError as error:
            raise PrepareError(
                233, f"the judge `{self._shown}` cannot be started: {error.strerror}"
            ) from error
        try:
            printed, _ = process.communicate(questions.encode("ascii"), timeout=self._seconds)
        except subprocess.TimeoutExpired:
            _stop(process)
            self._fail(
                f"was not done with {len(completions):,} completions after {self._seconds:g} s and "
                "was stopped (--judge-timeout)"
            )
        except BaseException:  # we are being ended
            _stop(process)
            raise
        code = process.returncode
        if code < 0:
            self._fail(f"was ended by signal {-code}")
        if code > 0:
            self._fail(f"ended with exit code {code}")
        return printed.decode("utf-8", errors="replace")

    def _score(self, line, number, where):
        try:
            value = json.loads(line)
        except ValueError:
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


def _stop(process):
    """Ends the judge and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
