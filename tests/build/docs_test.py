#!/usr/bin/env python3
"""The pages hold what they promise: links lead somewhere, headings that links name are there, pages
that programs name exist, variables of the environment are listed, and commands run.

  python3 tests/build/docs_test.py links ROOT            exit 1 with one line a fault
  python3 tests/build/docs_test.py links --self-test     proves that each kind of fault is found
  python3 tests/build/docs_test.py commands ROOT SUTOR [LOG]
                                      runs the tutorial's blocks that are marked `sh run`, and
                                      README's command lines, in a scratch folder; logs them
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(.*?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"\bdocs/[\w/]*\w(?:\.md)?")
VARIABLE = re.compile(r'"(SUTOR_[A-Z_]+)"')
PROGRAM = ("launch", "recipes", "checkpoint", "layers", "parallel_state", "csrc", "tools")
SKIPPED = {"build", ".venv", ".git"}
# Macros and values of CMake, which are no variables of the environment.
NO_VARIABLES = {"SUTOR_SOURCE_DIR", "SUTOR_VERSION", "SUTOR_COMMIT"}
SECONDS = 300


def pages(root):
    for path in sorted(root.rglob("*.md")):
        parts = path.relative_to(root).parts
        if not any(part in SKIPPED or part.startswith((".venv", "build-")) for part in parts):
            yield path


def anchors(text):
    """What headings are called in links, as GitHub makes it."""
    found = set()
    for heading in re.findall(r"^#{1,6} +(.*)$", FENCE.sub("", text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")
        found.add(name)
    return found


def link_faults(root):
    for page in pages(root):
        text = page.read_text("utf-8")
        name = page.relative_to(root)
        for target in LINK.findall(FENCE.sub("", text)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = page if not path else page.parent / path
            if not file.exists():
                yield f"{name}: {target} does not exist"
            elif anchor and file.suffix == ".md" and anchor not in anchors(
                    file.read_text("utf-8")):
                yield f"{name}: {target}: no such heading"


def sources(root):
    for folder in PROGRAM:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".cc", ".h", ".py", ".sh"):
                yield path, path.read_text("utf-8")


def program_faults(root):
    """Pages that messages and help texts name, and variables that the program reads."""
    listed = (root / "docs/reference/environment.md")
    variables = listed.read_text("utf-8") if listed.exists() else ""
    for path, text in sources(root):
        name = path.relative_to(root)
        for page in NAMED.findall(text):
            if not (root / page).exists():
                yield f"{name}: {page} does not exist"
        for variable in VARIABLE.findall(text):
            if variable not in NO_VARIABLES and f"`{variable}`" not in variables:
                yield f"{name}: {variable} is not in docs/reference/environment.md"


def unreachable(root):
    """Pages of docs/ to which no link leads from README."""
    seen, ways = set(), [root / "README.md"]
    while ways:
        page = ways.pop().resolve()
        if page in seen or not page.is_file() or page.suffix != ".md":
            continue
        seen.add(page)
        for target in LINK.findall(page.read_text("utf-8")):
            if not re.match(r"[a-z]+:", target):
                ways.append(page.parent / target.partition("#")[0])
    for page in pages(root):
        if page.is_relative_to(root / "docs") and page.resolve() not in seen:
            yield f"{page.relative_to(root)}: no page links to it"


def faults(root):
    return [*link_faults(root), *program_faults(root), *unreachable(root)]


def self_test():
    good = {
        "README.md": "[a](docs/a.md) [b](docs/a.md#the-b-part) [c](https://x.y) `[x](y)`\n"
                     "```\n[z](none.md)\n```\n".replace("`[x](y)`", ""),
        "docs/a.md": "# A\n## The `b` part\n[back](../README.md) [e](reference/environment.md)\n",
        "docs/reference/environment.md": "# E\n`SUTOR_A`\n",
        "launch/a.cc": 'getenv("SUTOR_A"); "see docs/a.md"\n',
    }
    bad = [({"README.md": good["README.md"] + "[d](docs/d.md)"}, "docs/d.md does not exist"),
           ({"docs/a.md": good["docs/a.md"] + "[d](#gone)"}, "#gone: no such heading"),
           ({"launch/b.cc": '"docs/gone.md"'}, "docs/gone.md does not exist"),
           ({"launch/b.cc": 'getenv("SUTOR_B")'}, "SUTOR_B is not in"),
           ({"docs/b.md": "# B"}, "no page links to it")]
    wrong = []
    for change, words in [({}, None), *bad]:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**good, **change}.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
            found = faults(pathlib.Path(folder))
        if (words is None and found) or (words and not any(words in line for line in found)):
            wrong.append(f"self-test: {change or 'the good tree'}: expected {words!r}, got {found}")
    return wrong


def blocks(root):
    """(where, script) of what a reader would type, in order."""
    for info, text in FENCE.findall((root / "docs/tutorial.md").read_text("utf-8")):
        if info.split() == ["sh", "run"]:
            yield "docs/tutorial.md", text
    # README's own recipe is for a model that is not here: the same verbs for the one that is.
    for info, text in FENCE.findall((root / "README.md").read_text("utf-8")):
        if info == "sh" and text.startswith("sutor"):
            there = {"/models/DeepSeek-V2-Lite-Chat": "practice/model", "my.yaml": "readme.yaml",
                     "train.jsonl": "practice/train.jsonl",
                     "held_out.jsonl": "practice/held_out.jsonl"}
            for old, new in there.items():
                text = re.sub(rf"(?<=\s){re.escape(old)}(?=\s)", new, text)
            yield "README.md", text


def run_commands(root, sutor, log):
    with tempfile.TemporaryDirectory(prefix="sutor-docs-") as folder:
        scratch = pathlib.Path(folder)
        (scratch / "bin").mkdir()
        (scratch / "build").mkdir()
        # Through a link Python would not find the packages of the venv.
        python = scratch / "bin/python"
        python.write_text(f'#!/bin/sh\nexec {root}/.venv/bin/python "$@"\n', "utf-8")
        python.chmod(0o755)
        for name in ("bin/sutor", "build/sutor"):
            (scratch / name).symlink_to(sutor)
        (scratch / "tools").symlink_to(root / "tools")
        environment = dict(os.environ, PATH=f"{scratch}/bin:{os.environ['PATH']}", NO_COLOR="1",
                           OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"))
        for where, script in blocks(root):
            shown = "".join(f"$ {line}\n" for line in script.strip().split("\n"))
            process = subprocess.Popen(["bash", "-euo", "pipefail", "-c", script], cwd=scratch,
                                       env=environment, text=True, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       start_new_session=True)
            try:
                output, _ = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
                output += f"still running after {SECONDS} s\n"
            print(f"== {where}\n{shown}{output}", file=log, flush=True)
            # A block of one command that has nothing to go on with is told by its own exit code.
            if process.returncode != 0:
                return [f"{where}: exit code {process.returncode}\n{shown}{output[-4000:]}"]
        return unlearned(scratch / "runs/letters/eval.jsonl")


def unlearned(path):
    """The tutorial promises that its held-out set gets clearly better than the base is."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    losses = [row["loss"] for row in rows if row["set"] == "held_out"]
    if len(losses) > 1 and min(losses[1:]) < losses[0] - 0.2:
        return []
    return [f"docs/tutorial.md: held_out did not get better, losses {losses}"]


def main():
    command, *rest = sys.argv[1:] or [""]
    if command == "links" and rest == ["--self-test"]:
        found = self_test()
    elif command == "links" and len(rest) == 1:
        found = faults(pathlib.Path(rest[0]).resolve())
    elif command == "commands" and len(rest) in (2, 3):
        root, sutor = (pathlib.Path(path).resolve() for path in rest[:2])
        with open(rest[2] if rest[2:] else os.devnull, "w", encoding="utf-8") as log:
            found = run_commands(root, sutor, log)
    else:
        raise SystemExit(__doc__)
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
