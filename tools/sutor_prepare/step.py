"""What the scripts that sutor runs have in common: a job as argument, errors as exit codes."""

import json
import signal
import os
import sys

from .errors import PrepareError
from .limits import OutOfTime, limit_step


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
    gib = 0
    if not os.environ.get("SUTOR_TRACEBACK"):
        os.environ["RUST_BACKTRACE"] = "0"  # of the tokenizers library
    try:
        gib = limit_step()
        run(json.loads(sys.argv[1]))
        sys.stdout.flush()
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
    except OutOfTime:
        print("error[E0504]: out of processor time (SUTOR_ROW_SECONDS)", file=sys.stderr)
        return 5
    except MemoryError:
        print(
            f"error[E0504]: out of memory: the step may have {gib:g} GiB (SUTOR_STEP_MEMORY)",
            file=sys.stderr,
        )
        return 5
    except KeyboardInterrupt:
        return 130
    except BaseException as error:  # a library's panic is no Exception
        if os.environ.get("SUTOR_TRACEBACK"):
            raise
        text = " ".join(str(error).split())[:1000]
        print(
            f"error[E0336]: {type(error).__name__}: {text}. The data, the tokenizer or the "
            "template hold something that this program does not expect (SUTOR_TRACEBACK=1 shows "
            "where)",
            file=sys.stderr,
        )
        return 3
    return 0
