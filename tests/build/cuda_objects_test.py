#!/usr/bin/env python3
"""Reads what nvcc said of each kernel (cmake/keep_ptxas_output.sh): none may spill registers to
memory, or have its tensor-core instructions made to wait for each other (warning C7510).

  python3 tests/build/cuda_objects_test.py OBJECT...    exit 1 with a line a problem
  python3 tests/build/cuda_objects_test.py --self-test  proves that each kind is found
"""

import re
import sys
from pathlib import Path

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
SPILL = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")


def read_kernels(text):
    """[{name, gpu, spills, registers}] of one file."""
    kernels = []
    for line in text.splitlines():
        if entry := ENTRY.search(line):
            kernels.append({"name": entry[1], "gpu": entry[2], "spills": None, "registers": None})
        elif (spill := SPILL.search(line)) and kernels and kernels[-1]["spills"] is None:
            kernels[-1]["spills"] = int(spill[1]) + int(spill[2])
        elif (used := USED.search(line)) and kernels:
            kernels[-1]["registers"] = int(used[1])
    return kernels


def problems(file, text):
    kernels = read_kernels(text)
    if not kernels:
        yield f"{file}: no kernel found; was it compiled with --ptxas-options=-v?"
    for kernel in kernels:
        where = f"{file}: {kernel['name']} for {kernel['gpu']}"
        if kernel["spills"] is None or kernel["registers"] is None:
            yield f"{where}: nothing said of its registers"
        elif kernel["spills"]:
            yield f"{where}: spills {kernel['spills']} bytes"
    for line in text.splitlines():
        if "C7510" in line:
            yield f"{file}: {line.strip()}"


GOOD = """\
ptxas info    : Compiling entry function '_Z1kv' for 'sm_90a'
ptxas info    : Function properties for _Z1kv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers
"""


def self_test():
    """A good output has no problem; each bad one has one that holds the given words."""
    assert not list(problems("k.o", GOOD))
    bad = {
        "no kernel found": "nvcc: nothing\n",
        "spills 24 bytes": GOOD.replace("0 bytes spill stores, 0", "8 bytes spill stores, 16"),
        "nothing said": GOOD.splitlines()[0],
        "C7510": GOOD + "ptxas info    : (C7510) Potential Performance Loss: wgmma\n",
    }
    for words, text in bad.items():
        found = list(problems("k.o", text))
        assert len(found) == 1 and words in found[0], (words, found)


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return 0
    if len(sys.argv) == 1:
        print("no objects given")
        return 1
    found, count, most = [], 0, 0
    for name in sys.argv[1:]:
        text = Path(name + ".ptxas").read_text("utf-8")
        found += problems(Path(name).name, text)
        registers = [kernel["registers"] or 0 for kernel in read_kernels(text)]
        count, most = count + len(registers), max([most, *registers])
    print("\n".join(found) if found else f"{count} kernels, of {most} registers at most, no spills")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
