#!/usr/bin/env python3
"""Compares the numbers of errors and warnings that sources, tools, tests and pages use with the
table in csrc/base/error_codes.h, its entries with the causes and remedies of launch/cli/codes/, and
docs/errors.md with what is made from both.

  python3 tests/error_codes_test.py ROOT          checks a tree; exit 1 with one line a violation
  python3 tests/error_codes_test.py ROOT --write  writes docs/errors.md
  python3 tests/error_codes_test.py --self-test   proves that each kind of violation is found
"""

import re
import sys
import tempfile
from pathlib import Path

TABLE = "csrc/base/error_codes.h"
PAGE = "docs/errors.md"
TEXTS = "launch/cli/codes"  # causes and remedies, which name every code without using it
PROGRAM = ("launch", "recipes", "checkpoint", "layers", "parallel_state", "csrc")
FOLDERS = (*PROGRAM, "tools", "tests", "docs")
SUFFIXES = (".cc", ".h", ".cu", ".py", ".sh", ".md", ".cmake")
ERROR = re.compile(r'^ *E\((\d+), (k\w+), (kExit\w+),[\s\\]*"([^"]*)"\)', re.MULTILINE)
WARNING = re.compile(r'^ *W\((\d+), (k\w+),[\s\\]*"([^"]*)"\)', re.MULTILINE)

STRING = r'((?:"(?:[^"\\]|\\.)*"\s*)+|k\w+)'
TEXT = re.compile(rf"\{{(Error|Warning)Code::(k\w+),\s*{STRING},\s*{STRING}\}}")
CONSTANT = re.compile(rf"constexpr std::string_view (k\w+) =\s*{STRING};")
NAME = re.compile(r"\b(Error|Warning)Code::(k\w+)")
PRINTED = re.compile(r"\b([EW])(\d{4})\b")
# A number where a name belongs: fail(605, ...), .code = 605, code() == 605, a cast.
BARE = re.compile(
    r"\b(?:fail|Error|expect_error)\(\s*\d{3,4}\b|\bcode(?:\(\))? *(?:[=!]=|[<>]=?|=) *\d{3,4}\b"
    r"|\b(?:Error|Warning)Code[({]\s*\d"
)
COMMENT = re.compile(r"(?:^|(?<=\s))//.*$", re.MULTILINE)
IN_TEXT = re.compile(r'"(?:[^"\\\n]|\\.)*\b[EW]\d{4}\b')
PYTHON_ERROR = re.compile(r"\bPrepareError\(\s*(\d+)")

# What the exit codes say, in the words of ExitCode in the table.
GROUPS = {
    "kExitCheckFailed": "a check that the user asked for failed",
    "kExitUsage": "recipe or command line",
    "kExitData": "data, model directory or checkpoint",
    "kExitBusy": "directory in use by another job",
    "kExitResources": "memory or disk",
    "kExitComm": "communication between the ranks",
    "kExitDiverged": "training diverged",
    "kExitInternal": "a bug in sutor",
    "kExitStopped": "stopped on request, everything saved: start again to go on",
}


class Table:
    def __init__(self, text):
        rows = ERROR.findall(text)
        self.errors = {int(number): row for number, *row in rows}  # name, exit code, line
        self.warnings = {int(number): row for number, *row in WARNING.findall(text)}
        self.numbers = {"E": set(self.errors), "W": set(self.warnings)}
        self.names = {row[0]: ("E", number) for number, row in self.errors.items()}
        self.warning_names = {row[0]: ("W", number) for number, row in self.warnings.items()}

    def find(self, kind, name):
        """The code of a name in ErrorCode or WarningCode; None when it has none."""
        return (self.names if kind == "Error" else self.warning_names).get(name)


def read_texts(root):
    """{("E", name): (cause, remedy)} of launch/cli/codes/."""
    texts = {}
    for path in sorted((root / TEXTS).glob("*.cc")):
        source = path.read_text("utf-8")
        constants = dict(CONSTANT.findall(source))

        def joined(literal, constants=constants):
            parts = re.findall(r'"((?:[^"\\]|\\.)*)"', constants.get(literal, literal))
            return re.sub(r"\\(.)", r"\1", "".join(parts))

        for kind, name, cause, remedy in TEXT.findall(source):
            texts[kind[0], name] = (joined(cause), joined(remedy))
    return texts


def text_problems(table, texts):
    """Codes without a cause or a remedy."""
    names = {("E", name): number for name, (_, number) in table.names.items()}
    names |= {("W", name): number for name, (_, number) in table.warning_names.items()}
    for (kind, name), number in names.items():
        if not all(texts.get((kind, name), ("", ""))):
            yield f"{TEXTS}: {kind}{number:04} ({name}) has no cause and remedy"


def read_sources(root):
    """{path: text} of all that may name a code; golden files and the table itself are left out."""
    files = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            name = str(path.relative_to(root))
            if path.suffix in SUFFIXES and path.is_file() and not name.startswith("tests/golden/"):
                files[name] = path.read_text("utf-8")
    files |= {path.name: path.read_text("utf-8") for path in root.glob("*.md")}
    for name in (TABLE, PAGE, "tests/error_codes_test.py"):
        files.pop(name, None)
    return files


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def file_problems(table, path, text, used):
    """Violations of one file; enters the codes that the program itself uses into `used`."""
    of_program = path.startswith((*[f"{folder}/" for folder in PROGRAM], "tools/"))
    of_program = of_program and not path.startswith(TEXTS)
    cpp = path.endswith((".cc", ".h", ".cu"))
    for match in NAME.finditer(text):
        found = table.find(match[1], match[2])
        if found is None:
            yield f"{path}:{line_of(text, match.start())}: {match[0]} is not in {TABLE}"
        elif of_program:
            used.add(found)
    for match in PRINTED.finditer(text):
        kind, number = match[1], int(match[2])
        if number not in table.numbers[kind]:
            yield f"{path}:{line_of(text, match.start())}: {match[0]} is not in {TABLE}"
        elif of_program and path.endswith(".py"):
            used.add((kind, number))
    for match in PYTHON_ERROR.finditer(text):
        number = int(match[1])
        if number not in table.errors:
            yield f"{path}:{line_of(text, match.start())}: E{number:04} is not in {TABLE}"
        elif of_program:
            used.add(("E", number))
    if cpp:
        for match in BARE.finditer(text):
            yield f"{path}:{line_of(text, match.start())}: `{match[0]}` needs a name of {TABLE}"
    if cpp and of_program:
        code = COMMENT.sub("", text)
        for match in IN_TEXT.finditer(code):
            yield f"{path}:{line_of(code, match.start())}: a code in a text needs a name of {TABLE}"


def page_of(table, texts):
    """docs/errors.md."""

    def row(kind, number, name, meaning):
        cause, remedy = (text.replace("|", "\\|") for text in texts.get((kind, name), ("", "")))
        return f"| {kind}{number:04} | {meaning} | {cause} | {remedy} |"

    lines = [
        "# Errors and warnings",
        "",
        f"Made from `{TABLE}` and `{TEXTS}/` by",
        "`python3 tests/error_codes_test.py . --write`; do not edit.",
        "",
        "An error is printed as `error[E0201]: message` and ends the program with the exit code of",
        "its group: the number without its last two digits. A message says what was expected, what",
        "was found, where, and how to mend it; this page says what a number stands for, what",
        "mostly causes it, and what to do. `sutor help E0201` prints the same.",
    ]
    by_exit = {}
    for number, (name, exit_code, line) in table.errors.items():
        by_exit.setdefault(exit_code, []).append((number, name, line))
    for exit_code, entries in by_exit.items():
        lines += ["", f"## Exit code {entries[0][0] // 100}: {GROUPS[exit_code]}", ""]
        lines += ["| error | means | causes | what to do |", "|---|---|---|---|"]
        lines += [row("E", *entry) for entry in entries]
    lines += ["", "## Warnings", "", "The program goes on after `warning[W0341]: message`.", ""]
    lines += ["| warning | means | causes | what to do |", "|---|---|---|---|"]
    lines += [row("W", number, *entry) for number, entry in table.warnings.items()]
    return "\n".join(lines) + "\n"


def problems(root):
    table = Table((root / TABLE).read_text("utf-8"))
    used = set()
    for path, text in read_sources(root).items():
        yield from file_problems(table, path, text, used)
    for kind, numbers in table.numbers.items():
        for number in sorted(numbers):
            if (kind, number) not in used:
                yield f"{TABLE}: nobody uses {kind}{number:04}"
    texts = read_texts(root)
    yield from text_problems(table, texts)
    page = root / PAGE
    if not page.is_file() or page.read_text("utf-8") != page_of(table, texts):
        yield f"{PAGE} is not what its table says: python3 tests/error_codes_test.py . --write"


def write_page(root):
    page = root / PAGE
    page.parent.mkdir(exist_ok=True)
    table = Table((root / TABLE).read_text("utf-8"))
    page.write_text(page_of(table, read_texts(root)), "utf-8")


def self_test():
    table = (
        '  E(201, kUnknownKey, kExitUsage, "a key") \\\n  E(303, kBroken, kExitData, "a file")\n'
        '  W(103, kRounding, "rounding")\n'
    )
    good = {
        TABLE: table,
        "launch/a.cc": 'fail(ErrorCode::kUnknownKey, "x", WarningCode::kRounding);  // "E0201"\n',
        "tools/a.py": 'raise PrepareError(303, "x")\n',
        "tests/a_test.cc": "expect_error(ErrorCode::kBroken, {}, f);\n",
        "README.md": "E0201 exits 2.\n",
        f"{TEXTS}/texts.cc": (
            'constexpr std::string_view kCopy = "Copy it.";\n'
            '{ErrorCode::kUnknownKey, "A \\"word\\" " "is wrong.", "Mend it."},\n'
            '{ErrorCode::kBroken, "A cut.", kCopy},\n{WarningCode::kRounding, "x", "y"},\n'
        ),
    }
    bad = {  # a file that is added or changed: what must be reported
        "no entry in the table": ("launch/b.cc", "ErrorCode::kOther", "kOther is not in"),
        "a warning is no error": ("launch/b.cc", "ErrorCode::kRounding", "kRounding is not in"),
        "a number": ("launch/b.cc", 'fail(\n    303, "x")', "needs a name"),
        "a number in a test": ("tests/b_test.cc", "if (error.code() == 303)", "needs a name"),
        "a number in a field": ("launch/b.cc", "{.code = 303}", "needs a name"),
        "a number in a text": ("launch/b.cc", 'print("error[E0303]: x")', "needs a name"),
        "an unknown number in a comment": ("launch/b.h", "// Throws E0304.", "E0304 is not in"),
        "an unknown warning": ("tools/b.py", '"warning[W0104]"', "W0104 is not in"),
        "an unknown number in Python": ("tools/b.py", "PrepareError(\n 304, x)", "E0304 is not in"),
        "an unknown number in a page": ("README.md", "E0999", "E0999 is not in"),
        "an unknown number in a test": ("tests/b.py", '"E0304"', "E0304 is not in"),
        "an entry that nobody uses": ("tools/a.py", "", "nobody uses E0303"),
        "a warning that nobody uses": ("launch/a.cc", "ErrorCode::kUnknownKey", "uses W0103"),
        "an old page": (PAGE, "old", f"{PAGE} is not what"),
        "a text of no code": (f"{TEXTS}/b.cc", '{WarningCode::kOld, "x", "y"}', "kOld is not in"),
    }

    def found(changed):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for path, text in good.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, "utf-8")
            write_page(root)
            for path, text in changed.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, "utf-8")
            return list(problems(root))

    failures = [f"a good tree: {problem}" for problem in found({})]
    for case, (path, text, words) in bad.items():
        reported = found({path: text})
        if len(reported) != 1 or words not in reported[0]:
            failures.append(f"{case}: expected one problem with `{words}`, found {reported}")
    without = good[f"{TEXTS}/texts.cc"].replace('"Mend it."', '""')
    reported = found({f"{TEXTS}/texts.cc": without})
    if not any("E0201 (kUnknownKey) has no cause and remedy" in problem for problem in reported):
        failures.append(f"a code without a remedy: found {reported}")
    return failures


def main():
    if sys.argv[1:] == ["--self-test"]:
        failures = self_test()
    elif sys.argv[2:] == ["--write"]:
        failures = write_page(Path(sys.argv[1])) or []
    else:
        failures = list(problems(Path(sys.argv[1])))
    print("\n".join(failures), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
