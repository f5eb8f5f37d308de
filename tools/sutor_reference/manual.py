"""Man pages: sutor.1, and one a verb."""

import textwrap


def man_pages(program):
    """{file name: troff}"""
    pages = {"sutor.1": main_page(program)}
    pages |= {f"sutor-{verb.name}.1": verb_page(program, verb) for verb in program.verbs}
    return pages


def quoted(text):
    """A line of text in troff: backslashes and hyphens as they are, no request by accident."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def head(program, name):
    version = " ".join(program.version.split()[:2])
    return [f'.TH {name.upper()} 1 "" "{version}" "User commands"', ".nh"]


def as_typed(lines):
    """Lines that keep their breaks."""
    return [".nf", *map(quoted, lines), ".fi"]


def main_page(program):
    lines = head(program, "sutor")
    lines += [".SH NAME", quoted("sutor - trains the experts of a mixture-of-experts model that a "
                                 "task uses"), ".SH SYNOPSIS"]
    lines += as_typed(["sutor VERB [RECIPE.yaml] [options]", "sutor VERB --help",
                       "sutor help CODE"])
    lines += [".SH DESCRIPTION", quoted(program.purpose), ".SH VERBS"]
    for verb in program.verbs:
        lines += [".TP", f".B {quoted(verb.name)}", quoted(verb.summary)]
    lines += [".SH EXIT STATUS", *map(quoted, program.exit_codes.strip().split("\n")),
              ".SH SEE ALSO"]
    lines.append(", ".join(quoted(f"sutor-{verb.name}(1)")
                           for verb in program.verbs))
    return "\n".join(lines) + "\n"


def verb_page(program, verb):
    lines = head(program, f"sutor-{verb.name}")
    lines += [".SH NAME", quoted(f"sutor-{verb.name} - {verb.summary}"), ".SH SYNOPSIS"]
    lines += as_typed(verb.usage)
    lines.append(".SH DESCRIPTION")
    lines += map(quoted, textwrap.wrap(" ".join(verb.description.split()), 90))
    lines.append(".SH OPTIONS")
    for option in verb.options:
        lines += [".TP", f".B {quoted(f'{option.name} {option.argument}'.strip())}",
                  quoted(option.meaning)]
    lines.append(".SH EXAMPLES")
    lines += as_typed(verb.examples)
    lines += [".SH EXIT STATUS", *map(quoted, program.exit_codes.strip().split("\n")),
              ".SH SEE ALSO", quoted("sutor(1)")]
    return "\n".join(lines) + "\n"
