#!/usr/bin/env python3
"""Walks the includes of the sources: they point downwards, form no cycle, and keep torch out of the
folders that promise to build without it.

  python3 tests/includes_test.py ROOT          checks a tree; exit 1 with one line a violation
  python3 tests/includes_test.py --self-test   proves that each kind of violation is found
"""

import re
import sys
import tempfile
from pathlib import Path

FOLDERS = ("launch", "recipes", "checkpoint", "layers", "parallel_state", "csrc")
# Folder -> what it may include besides itself; DESIGN: launch > recipes > checkpoint | layers > ...
ALLOWED = {
    "launch": {"recipes", "checkpoint", "layers", "parallel_state", "csrc"},
    "recipes": {"checkpoint", "layers", "parallel_state", "csrc"},
    "checkpoint": {"parallel_state", "csrc"},
    "layers": {"parallel_state", "csrc"},
    "parallel_state": {"csrc"},
    "csrc": set(),
}
TORCH_FREE = ("launch/data/", "recipes/", "checkpoint/", "layers/esft/", "parallel_state/",
              "csrc/base/")
TORCH = re.compile(r"(torch|ATen|c10)/")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def read_includes(root):
    """{file: [(quote, included path)]} of the sources, paths relative to the root."""
    files = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".h", ".cc", ".cu"):
                files[str(path.relative_to(root))] = INCLUDE.findall(path.read_text("utf-8"))
    return files


def folder_of(path):
    return path.split("/", 1)[0]


def direct_problems(files):
    for file, includes in files.items():
        here = folder_of(file)
        for quote, target in includes:
            if target == "torch/torch.h":
                yield f"{file}: includes torch/torch.h (21 s a file); include what is used"
            there = folder_of(target)
            if there not in FOLDERS:
                if quote == '"':
                    yield f'{file}: "{target}" is not a path from the root'
                continue
            if target not in files:
                yield f"{file}: {target} does not exist"
            if there != here and there not in ALLOWED[here]:
                yield f"{file}: includes {target}, which is not below {here}/"
            if here == "recipes" and there not in ("recipes",):
                if not target.endswith("_options.h") and not target.startswith("csrc/base/"):
                    yield f"{file}: recipes may include only *_options.h, csrc/base; not {target}"
            if file.startswith("csrc/base/") and not target.startswith("csrc/base/"):
                yield f"{file}: csrc/base may include only itself, not {target}"


def cycle_problems(files):
    """Depth-first search; a file met again while it is open closes a cycle."""
    state = {}  # absent: not seen, 1: open, 2: done

    def visit(file, trail):
        state[file] = 1
        for _, target in files[file]:
            if target not in files:
                continue
            if state.get(target) == 1:
                yield "cycle: " + " -> ".join([*trail[trail.index(target):], target])
            elif target not in state:
                yield from visit(target, [*trail, target])
        state[file] = 2

    for file in files:
        if file not in state:
            yield from visit(file, [file])


def torch_problems(files):
    """Torch headers reached from a torch-free file, with the way there."""
    for file in files:
        if not file.startswith(TORCH_FREE):
            continue
        seen, ways = {file}, [[file]]
        while ways:
            way = ways.pop()
            for _, target in files[way[-1]]:
                if TORCH.match(target):
                    yield f"{file}: must build without torch: {' -> '.join([*way, target])}"
                elif target in files and target not in seen:
                    seen.add(target)
                    ways.append([*way, target])


def problems(root):
    files = read_includes(root)
    if not files:
        return [f"{root}: no sources found"]
    return [*direct_problems(files), *cycle_problems(files), *torch_problems(files)]


def self_test():
    """A good tree has no problem; each bad tree has one that holds the given words."""
    good = {
        "launch/a.cc": '#include "recipes/r.h"\n#include <torch/types.h>',
        "recipes/r.h": '#include "layers/esft/esft_options.h"\n#include "csrc/base/e.h"',
        "layers/esft/esft_options.h": "#include <string>",
        "csrc/base/e.h": "",
        "layers/m.h": "#include <ATen/ops/mm.h>"
    }
    bad = [
        ({
            "csrc/base/e.h": '#include "layers/m.h"'
        }, "not below csrc/"),
        ({
            "checkpoint/c.h": '#include "layers/esft/esft_options.h"'
        }, "not below checkpoint/"),
        ({
            "recipes/r.h": '#include "layers/m.h"'
        }, "recipes may include only"),
        ({
            "csrc/ops/o.h": "",
            "csrc/base/e.h": '#include "csrc/ops/o.h"'
        }, "csrc/base may include only"),
        ({
            "layers/n.h": '#include "layers/m.h"',
            "layers/m.h": '#include "layers/n.h"'
        }, "cycle: "),
        ({
            "layers/esft/s.cc": '#include "layers/m.h"'
        }, "must build without torch"),
        ({
            "layers/m.h": "#include <torch/torch.h>"
        }, "torch/torch.h"),
        ({
            "layers/m.h": '#include "layers/gone.h"'
        }, "does not exist"),
        ({
            "layers/m.h": '#include "rope.h"'
        }, "not a path from the root"),
    ]
    for change, words in [({}, None), *bad]:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**good, **change}.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text + "\n")
            found = problems(Path(folder))
            if (words is None and found) or (words and not any(words in line for line in found)):
                return [
                    f"self-test: {change or 'the good tree'}: expected {words!r}, found {found}"
                ]
    return []


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    found = self_test() if sys.argv[1] == "--self-test" else problems(Path(sys.argv[1]))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
