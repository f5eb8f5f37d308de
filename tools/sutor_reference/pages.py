"""Markdown of docs/reference/: the verbs and the keys of a recipe."""

import re

MADE = "Made by `tools/make_reference.py {page}` from what the program says; do not edit."


def verbs_page(program):
    lines = ["# Verbs", "", MADE.format(page="build/sutor --write"), "",
             "`sutor VERB --help` prints the same, `sutor help CODE` what an error means. " +
             "[Exit codes](exit_codes.md) are those of all verbs.", "", "| verb | does |",
             "|---|---|"]
    for verb in program.verbs:
        lines.append(f"| [`{verb.name}`](#{verb.name}) | {escaped(verb.summary)} |")
    for verb in program.verbs:
        lines += ["", f"## {verb.name}", "", "```", verb.page, "```"]
    return "\n".join(lines) + "\n"


def recipe_page(keys):
    """One table a section; `keys` as Program.recipe_keys() has them."""
    lines = ["# Keys of a recipe", "", MADE.format(page="build/sutor --write"), "",
             "A key that is required has to be given. Any key can be set on the command line: "
             "`--set optim.lr=1e-4`.", "An unknown key is an error that names the nearest one. How "
             "a recipe is written, with", "`base:` and `${NAME}`: [recipes](recipes.md). `sutor "
             "config my.yaml` prints every value of yours", "with its origin."]
    section = None
    for key in keys:
        name = key["key"].split(".")[0] if "." in key["key"] else ""
        if name != section:
            section = name
            lines += ["", f"## {section or key['key']}", "", "| key | type | default | meaning |",
                      "|---|---|---|---|"]
        default = key.get("default") or ""
        # Words about a default are no value that could be written.
        if default and (default[0] in "[{" or not re.search(r" |^required", default)):
            default = f"`{default}`"
        meaning = key["meaning"]
        if key.get("unit"):
            meaning += f" ({key['unit']})"
        lines.append(f"| `{key['key']}` | {escaped(key['type'])} | {escaped(default)} | "
                     f"{escaped(meaning)} |")
    return "\n".join(lines) + "\n"


def escaped(text):
    return text.replace("|", "\\|")
