"""What the scripts that sutor runs have in common: a job as argument, errors as exit codes."""

import json
import signal
import sys

from .errors import PrepareError


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
    try:
        run(json.loads(sys.argv[1]))
    except ImportError as error:
        print(
            f"error[E0232]: {sys.executable} lacks the package {error.name}. Run "
            f"`bash tools/setup.sh`, or set SUTOR_PYTHON to a Python with {packages}",
            file=sys.stderr,
        )
        return 2
    except PrepareError as error:
        print(error.report(), file=sys.stderr)
        return error.exit_code()
    except OSError as error:
        code = "E0501" if error.errno in (28, 122) else "E0502"  # no space, quota
        print(f"error[{code}]: {error}", file=sys.stderr)
        return 5
    except KeyboardInterrupt:
        return 130
    return 0
