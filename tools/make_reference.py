#!/usr/bin/env python3
"""Pages of docs/reference/, man pages and completion, made from what the program says of itself.

  python3 tools/make_reference.py build/sutor --write      writes docs/reference/
  python3 tools/make_reference.py build/sutor --check      exit code 1 when a page is not up to date
  python3 tools/make_reference.py SUTOR --man DIR --bash FILE --zsh FILE     for an installed tree
"""

import argparse
import pathlib
import sys

from sutor_reference import completion, manual, pages
from sutor_reference.program import Program

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "docs/reference"


def write(path, text):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sutor")
    parser.add_argument("--write", action="store_true", help="write docs/reference/")
    parser.add_argument("--check", action="store_true", help="compare docs/reference/")
    parser.add_argument("--man", help="folder for the man pages")
    parser.add_argument("--bash", help="file for bash's completion")
    parser.add_argument("--zsh", help="file for zsh's completion")
    asked = parser.parse_args()
    program = Program(asked.sutor)
    keys = program.recipe_keys()
    made = {"verbs.md": pages.verbs_page(program), "recipe.md": pages.recipe_page(keys)}
    for name, text in (made if asked.write else {}).items():
        write(FOLDER / name, text)
    for name, text in (manual.man_pages(program) if asked.man else {}).items():
        write(pathlib.Path(asked.man) / name, text)
    if asked.bash:
        write(asked.bash, completion.bash(program, [key["key"] for key in keys]))
    if asked.zsh:
        write(asked.zsh, completion.zsh(program))
    old = [name for name, text in made.items() if asked.check and
           (not (FOLDER / name).is_file() or (FOLDER / name).read_text("utf-8") != text)]
    for name in old:
        print(f"docs/reference/{name} is not what the program says: "
              "python3 tools/make_reference.py build/sutor --write")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
