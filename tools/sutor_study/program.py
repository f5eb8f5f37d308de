"""Runs sutor's verbs, each with its output in a log file."""

import json
import subprocess
from pathlib import Path


class Program:
    """The sutor program, started in the folder that the recipes' paths are relative to."""

    def __init__(self, path, work):
        self.path = Path(path).resolve()
        self.work = Path(work).resolve()
        if not self.path.is_file():
            raise SystemExit(f"error: {path} is not there; build it with: bash tools/setup.sh")

    def run(self, log, verb, *arguments):
        """Runs a verb and returns what it wrote on stdout; `log` gets everything."""
        command = [str(self.path), verb, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, text=True, capture_output=True, check=False)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"$ sutor {' '.join(command[1:])}\n{done.stdout}{done.stderr}\n")
        if done.returncode != 0:
            raise SystemExit(f"error: sutor {verb} ended with {done.returncode}: "
                             f"{done.stderr.strip()}\n(the whole output: {log})")
        return done.stdout

    def json(self, log, verb, *arguments):
        return json.loads(self.run(log, verb, *arguments, "--json"))
