#!/usr/bin/env python3
"""Walks the calls of std::filesystem in the sources: those that ask or change the file system take
an error code, so that a missing permission is an error with a path and never an unknown exception.
csrc/base/directory.h has the functions that throw Error instead.

  python3 tests/filesystem_calls_test.py ROOT          exit 1 with one line a violation
  python3 tests/filesystem_calls_test.py --self-test   proves that each kind of call is judged right
"""

import re
import sys
from pathlib import Path

FOLDERS = ("launch", "recipes", "checkpoint", "layers", "parallel_state", "csrc")
CALL = re.compile(
    r"\b(?:std::filesystem|fs)::(absolute|canonical|weakly_canonical|relative|proximate|copy\w*|"
    r"create_\w+|current_path|equivalent|exists|file_size|hard_link_count|is_\w+|last_write_time|"
    r"permissions|read_symlink|remove\w*|rename|resize_file|space|status|symlink_status|"
    r"temp_directory_path|(?:recursive_)?directory_iterator)(?:\s+\w+)?\(")
CODE = re.compile(r"\b(?:error|ignored|gone|code)\b")  # what error codes are called here
ANSWER = re.compile(r"^\s*(?:status|error)?\s*$")  # of a status that is there already; no argument


def arguments_at(text, begin):
    """The text between the bracket before `begin` and the one that closes it."""
    depth, end = 1, begin
    while depth > 0 and end < len(text):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    return text[begin:end - 1]


def throwing_calls(text):
    """(line, call) of the calls without an error code; comments do not count."""
    text = re.sub(r"//[^\n]*", lambda match: " " * len(match.group()), text)
    for match in CALL.finditer(text):
        arguments = arguments_at(text, match.end())
        if CODE.search(arguments) or ANSWER.match(arguments):
            continue
        yield text.count("\n", 0, match.start()) + 1, " ".join(match.group(0).split()) + "...)"


def problems(root):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".h", ".cc", ".cu", ".cuh"):
                for line, call in throwing_calls(path.read_text("utf-8")):
                    yield f"{path.relative_to(root)}:{line}: {call} takes no error code and throws"


def self_test():
    bad = ("fs::exists(path)", "std::filesystem::create_directories(a / b(c))", "fs::remove(\n  x)",
           "for (auto& e : fs::directory_iterator(folder)) {}", "fs::weakly_canonical(p) / x",
           "fs::recursive_directory_iterator at(folder);", "fs::rename(a, b)")
    good = ("fs::exists(path, error)", "fs::is_regular_file(status)", "fs::directory_iterator()",
            "fs::exists(fs::symlink_status(path, ignored))", "// fs::exists(path)",
            "fs::directory_iterator at(folder, error);", "fs::path(x)", "is_there(path)")
    for text in bad:
        assert list(throwing_calls(text)), text
    for text in good:
        assert not list(throwing_calls(text)), text


if __name__ == "__main__":
    if sys.argv[1] == "--self-test":
        self_test()
        sys.exit(0)
    found = list(problems(Path(sys.argv[1])))
    print("\n".join(found) or "every call of std::filesystem takes an error code")
    sys.exit(1 if found else 0)
