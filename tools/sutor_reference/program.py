"""What the program says of itself: its verbs with their help pages, the keys of a recipe."""

import concurrent.futures
import dataclasses
import json
import os
import re
import subprocess

SECONDS = 60


@dataclasses.dataclass
class Option:
    name: str  # "--device"
    argument: str  # "arg", "[=arg(=newest)]", or "" for a switch
    meaning: str
    choices: tuple = ()  # words that the usage lists, as in `--format adapter|merged`


@dataclasses.dataclass
class Verb:
    name: str
    summary: str  # of the list of verbs
    page: str  # what `--help` prints
    description: str
    usage: list
    options: list
    examples: list


class Program:
    def __init__(self, path):
        self.path = os.path.abspath(path)
        text = self.ask("--help")
        self.version, self.purpose = text.split("\n")[:2]
        listed, self.exit_codes = text.split("\nexit codes:")
        self.exit_codes = "exit codes:" + self.exit_codes
        names = re.findall(r"^  ([a-z][a-z-]*) +(\S.*)$", listed, re.MULTILINE)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            pages = pool.map(lambda name: self.ask(name[0], "--help"), names)
            self.verbs = [read_page(*name, page) for name, page in zip(names, pages)]

    def ask(self, *arguments):
        done = subprocess.run([self.path, *arguments], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=SECONDS, check=False,
                              env=dict(os.environ, NO_COLOR="1", OMP_NUM_THREADS="1"))
        if done.returncode != 0:
            raise SystemExit(f"{self.path} {' '.join(arguments)}: exit code {done.returncode}\n"
                             f"{done.stderr}")
        return done.stdout

    def recipe_keys(self):
        """[{"key", "type", "default", "unit", "meaning"}], in the order of a printed recipe."""
        return json.loads(self.ask("config", "--reference", "--json"))


def read_page(name, summary, page):
    description, rest = page.split("\n\nusage:\n")
    usage, rest = rest.split("\n\noptions:\n")
    options, examples = rest.split("\nexamples:\n")
    usage = re.sub(r"\s*\n\s*", "\n", usage.strip())
    choices = dict(re.findall(r"(--[a-z-]+)[ =]([a-z0-9_]+(?:\|[A-Za-z0-9_]+)+)", usage))
    return Verb(name, summary, re.sub(r" +$", "", page, flags=re.MULTILINE).rstrip("\n"),
                description.strip(), usage.split("\n"),
                list(read_options(options, choices)),
                [line.strip() for line in examples.strip().split("\n")])


def read_options(text, choices):
    """Boost's list: `  --name arg (=default)    meaning`, which goes on in lines without a name."""
    for block in re.split(r"^(?=  --)", text, flags=re.MULTILINE):
        match = re.match(r"  (--[a-z0-9-]+)((?: \[?=?arg\S*)?(?: \(=[^)]*\))?)\s+(.*)", block,
                         re.DOTALL)
        if not match:
            continue
        meaning = " ".join(match[3].split())
        words = tuple(word for word in choices.get(match[1], "").split("|") if word.islower())
        yield Option(match[1], match[2].strip(), meaning, words)
