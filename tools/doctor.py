#!/usr/bin/env python3
"""Which packages this Python has of those that the other scripts need; run by `sutor doctor`.

Prints a JSON object: {"python", "executable", "packages": [{"name", "needed", "use", "version" or
"error"}]}. Ends by itself after SECONDS, should an import hang.
"""

import importlib
import importlib.metadata
import json
import signal
import sys

SECONDS = 25
# (module, package, whether rows cannot be prepared without it, what it is for)
PACKAGES = (
    ("tokenizers", "tokenizers", True, "tokens"),
    ("jinja2", "jinja2", True, "chat templates"),
    ("h5py", "h5py", True, "token stores"),
    ("numpy", "numpy", True, "token stores"),
    ("pyarrow.parquet", "pyarrow", False, "rows in Parquet"),
    ("zstandard", "zstandard", False, "rows in .zst"),
)


def looked_up(module, package, needed, use):
    found = {"name": package, "needed": needed, "use": use}
    try:
        importlib.import_module(module)
        found["version"] = importlib.metadata.version(package)
    except Exception as error:  # a package that is broken raises anything
        found["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return found


if __name__ == "__main__":
    signal.alarm(SECONDS)
    print(json.dumps({
        "python": ".".join(map(str, sys.version_info[:3])), "executable": sys.executable,
        "packages": [looked_up(*package) for package in PACKAGES]}))
