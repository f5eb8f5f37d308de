"""Runs in which calls fail, and the record of the calls that changed a file system; see
tests/support/faulty_calls.c."""

import shutil
import subprocess

from processes import ROOT
from table import NotPossible


def shim(lab, calls="", **variables):
    """The environment under which these calls fail."""
    with lab.lock:
        library = lab.folder / "faulty_calls.so"
        if not library.exists():
            if shutil.which("gcc") is None:
                raise NotPossible("needs gcc")
            subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", library,
                            ROOT / "tests" / "support" / "faulty_calls.c", "-ldl", "-lpthread"],
                           check=True)
    return {"LD_PRELOAD": str(library), "FAULTY_CALLS": calls,
            **{f"FAULTY_{name.upper()}": str(value) for name, value in variables.items()}}


def traced(lab, job, *words, folder=None, ranks=1, **how):
    """Runs the program and returns its file operations under `folder`: lists of operation, path,
    other path, offset, bytes, data."""
    trace = job.recipe.parent.parent / f"{job.recipe.parent.name}.trace"
    done = lab.must(*words, ranks=ranks,
                    env=shim(lab, trace=trace, folder=folder or job.run), **how)
    operations = []
    for line in trace.read_text().splitlines():
        pid, name, path, other, offset, size, at = line.split("\t")
        data = b""
        if name == "write":
            with open(f"{trace}.{pid}", "rb") as file:
                file.seek(int(at))
                data = file.read(int(size))
        operations.append((name, path, other, int(offset), int(size), data))
    return done, operations
