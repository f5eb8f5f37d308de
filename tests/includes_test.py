#!/usr/bin/env python3
"""Walks the includes of the sources: they point downwards from room to room, form no cycle, and
keep torch out of the folders that promise to build without it. No folder outgrows its readers.

  python3 tests/includes_test.py ROOT          checks a tree; exit 1 with one line a violation
  python3 tests/includes_test.py --self-test   proves that each kind of violation is found
"""

import re
import sys
import tempfile
from pathlib import Path

# The rooms from the top down: a file may include its own room and rooms below it in this list.
ROOMS = (
    "launch",
    "launch/verbs",
    "launch/doctor",
    "launch/start",
    "launch/steps",
    "launch/plan",
    "launch/preflight",
    "launch/train",
    "launch/train/passes",
    "launch/train/losses",
    "launch/train/watch",
    "launch/train/record",
    "launch/save",
    "launch/report",
    "launch/inspect",
    "launch/chat",
    "launch/eval",
    "launch/convert",
    "launch/checkpoints",
    "launch/model",
    "launch/data",
    "launch/data/rows",
    "launch/cli",
    "launch/cli/codes",
    "launch/python",
    "launch/output",
    "launch/job",
    "launch/torchrun",
    "launch/log",
    "recipes",
    "checkpoint/compare",
    "checkpoint/export",
    "checkpoint/partial",
    "checkpoint/store",
    "checkpoint/files",
    "checkpoint/huggingface",
    "checkpoint/quantized",
    "checkpoint/format",
    "layers/models",
    "layers/decoder",
    "layers/moe",
    "layers/attention",
    "layers/blocks",
    "layers/storage",
    "layers/batch",
    "layers/parallel",
    "layers/optim",
    "layers/shards",
    "layers/lora",
    "layers/esft",
    "parallel_state",
    "parallel_state/placement",
    "parallel_state/layout",
    "parallel_state/model",
    "csrc/ops/cpu/kernels",
    "csrc/ops/cpu",
    "csrc/ops/shapes",
    "csrc/ops/cuda",
    "csrc/ops/cuda/kernels",
    "csrc/ops/cuda/rows",
    "csrc/ops/no_cuda",
    "csrc/ops",
    "csrc/ops/device",
    "csrc/comm/nccl",
    "csrc/comm/mpi",
    "csrc/comm/watchdog",
    "csrc/comm",
    "csrc/base/hdf5",
    "csrc/base/owner",
    "csrc/base",
    "csrc/base/process",
    "csrc/base/text",
)
FOLDERS = ("launch", "recipes", "checkpoint", "layers", "parallel_state", "csrc")
# Folders that stand beside each other: neither includes the other, whatever their order above.
SEPARATE = (("checkpoint", "layers"), )
# Beyond this a folder is split by meaning. Golden files, which nobody browses, are left out.
MOST_FILES = 25
TORCH_FREE = ("launch/data/", "recipes/", "checkpoint/", "layers/esft/", "parallel_state/",
              "csrc/base/")
TORCH = re.compile(r"(torch|ATen|c10)/")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def read_includes(root):
    """{file: [(quote, included path)]} of the sources, paths relative to the root."""
    files = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".h", ".cc", ".cu", ".cuh"):
                files[str(path.relative_to(root))] = INCLUDE.findall(path.read_text("utf-8"))
    return files


def folder_of(path):
    return path.split("/", 1)[0]


def room_of(path):
    return path.rsplit("/", 1)[0]


def direct_problems(files):
    for file, includes in files.items():
        here = folder_of(file)
        room = room_of(file)
        if room not in ROOMS:
            yield f"{file}: {room}/ is no room; enter it in ROOMS of tests/includes_test.py"
            continue
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
            elif room_of(target) in ROOMS and ROOMS.index(room_of(target)) < ROOMS.index(room):
                yield f"{file}: includes {target}, which is not below {room}/"
            if any({here, there} == set(pair) for pair in SEPARATE):
                yield f"{file}: includes {target}; {here}/ and {there}/ do not know each other"
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


def size_problems(root):
    """Folders that hold more files than a reader takes in."""
    for top in (*FOLDERS, "tests", "tools", "docs"):
        for folder in [root / top, *sorted((root / top).rglob("*/"))]:
            if not folder.is_dir() or {"golden", "__pycache__"} & set(folder.parts):
                continue
            count = sum(1 for path in folder.iterdir() if path.is_file())
            if count > MOST_FILES:
                yield f"{folder.relative_to(root)}: {count} files; split it by meaning"


def table_problems(root):
    """Rooms that the contributors' table of the sources does not list."""
    page = root / "docs/contributing.md"
    text = page.read_text("utf-8") if page.exists() else ""
    for room in ROOMS:
        if text and f"| `{room}/` |" not in text:
            yield f"docs/contributing.md: the table of the rooms has no line for `{room}/`"


def problems(root):
    files = read_includes(root)
    if not files:
        return [f"{root}: no sources found"]
    return [
        *direct_problems(files), *cycle_problems(files), *torch_problems(files),
        *size_problems(root), *table_problems(root)
    ]


def self_test():
    """A good tree has no problem; each bad tree has one that holds the given words."""
    good = {
        "launch/verbs/a.cc": '#include "recipes/r.h"\n#include <torch/types.h>',
        "recipes/r.h": '#include "layers/esft/esft_options.h"\n#include "csrc/base/e.h"',
        "layers/esft/esft_options.h": "#include <string>",
        "csrc/base/e.h": "",
        "layers/moe/m.h": "#include <ATen/ops/mm.h>"
    }
    bad = [
        ({
            "csrc/base/e.h": '#include "layers/moe/m.h"'
        }, "not below csrc/base/"),
        ({
            "layers/blocks/b.h": '#include "layers/moe/m.h"'
        }, "not below layers/blocks/"),
        ({
            "checkpoint/format/c.h": '#include "layers/esft/esft_options.h"'
        }, "do not know each other"),
        ({
            "recipes/r.h": '#include "layers/moe/m.h"'
        }, "recipes may include only"),
        ({
            "csrc/ops/o.h": "",
            "csrc/base/e.h": '#include "csrc/ops/o.h"'
        }, "csrc/base may include only"),
        ({
            "layers/moe/n.h": '#include "layers/moe/m.h"',
            "layers/moe/m.h": '#include "layers/moe/n.h"'
        }, "cycle: "),
        ({
            "layers/esft/s.cc": '#include "layers/moe/m.h"'
        }, "must build without torch"),
        ({
            "layers/moe/m.h": "#include <torch/torch.h>"
        }, "torch/torch.h"),
        ({
            "layers/moe/m.h": '#include "layers/moe/gone.h"'
        }, "does not exist"),
        ({
            "layers/moe/m.h": '#include "rope.h"'
        }, "not a path from the root"),
        ({
            "layers/odd/m.h": ""
        }, "is no room"),
        ({
            f"layers/moe/{i}.h": ""
            for i in range(MOST_FILES + 1)
        }, "split it by meaning"),
        ({
            "docs/contributing.md": "| `launch/` | the program |"
        }, "no line for `launch/verbs/`"),
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
