#!/usr/bin/env python3
"""The objects of each level of kernels hold the instructions of that level and no symbol that the
linker could take for another level's.

  python3 tests/kernel_objects_test.py LEVEL=OBJECT[:OBJECT ...] ...

exits 1 with one line a violation, 77 where binutils are missing.
"""

import re
import shutil
import subprocess
import sys

# The widest registers of a level; it must use them, or the check of the lower ones is no check.
REGISTERS = ("xmm", "ymm", "zmm")
WIDEST = {"x86_64_v2": "xmm", "x86_64_v3": "ymm", "x86_64_v4": "zmm"}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def register_problems(level, objects):
    code = output("objdump", "-d", "--no-show-raw-insn", *objects)
    widest = REGISTERS.index(WIDEST[level])
    for register in REGISTERS[widest + 1:]:
        count = len(re.findall(f"%{register}", code))
        if count:
            yield f"{level}: {count} uses of {register} registers, which its CPUs may lack"
    if f"%{WIDEST[level]}" not in code:
        yield f"{level}: no use of {WIDEST[level]} registers: not vectorised for its CPUs"


def symbol_problems(level, objects):
    for line in output("nm", "-C", "--defined-only", "--extern-only", *objects).splitlines():
        symbol = re.match(r"[0-9a-f]+ [A-Za-z] (.*)", line)
        if symbol and f"sutor::ops::{level}::" not in symbol[1]:
            yield f"{level}: defines {symbol[1]}, which other levels may share"


def main():
    if not (shutil.which("objdump") and shutil.which("nm")):
        print("skipped: objdump and nm (binutils) are not here")
        return 77
    found = []
    for argument in sys.argv[1:]:
        level, objects = argument.split("=", 1)
        objects = [path for path in objects.split(":") if path]
        found += symbol_problems(level, objects)
        if level in WIDEST:
            found += register_problems(level, objects)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
