"""What the scripts that sutor runs have in common: a job as argument, errors as exit codes."""

import json
import signal
import os
import sys

from .endings import ending_of, is_unexpected
from .limits import limit_step


def once(load):
    """A function that calls `load` at its first call only."""
    kept = []

    def get():
        if not kept:
            kept.append(load())
        return kept[0]

    return get


def _leave(number, _frame):
    """sutor tells its scripts to end: an exception, so that unfinished files are removed."""
    raise SystemExit(128 + number)


def run_step(run, packages):
    """Runs run(job) with the JSON object of the command line; returns the exit code.

    packages: what the script imports beyond the standard library, for the message that one lacks.
    """
    signal.signal(signal.SIGTERM, _leave)
    if not os.environ.get("SUTOR_TRACEBACK"):
        os.environ["RUST_BACKTRACE"] = "0"  # of the tokenizers library
    try:
        limit_step()
        run(json.loads(sys.argv[1]))
        sys.stdout.flush()
    except SystemExit:
        raise
    except BaseException as error:
        if is_unexpected(error) and os.environ.get("SUTOR_TRACEBACK"):
            raise
        line, code = ending_of(error, packages)
        if line:
            print(line, file=sys.stderr)
        return code
    return 0
