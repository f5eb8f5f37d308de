"""Training jobs over several ranks for the tests of faults and launchers: a tiny model, their data,
runs under a time limit, and what is left of their processes. Needs no Python torch.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests" / "golden" / "models" / "deepseek_v2_lite"
GONE_SECONDS = 10  # a dead or failing rank ends the job within this time

RECIPE = """\
model: {{path: {model}, dtype: fp32}}
parallel: {{ep: 2}}
data:
  train: [{{path: {rows}, name: rows}}]
  packing: false
  loss_on: all
  seq_len: 64
esft: {{config: {config}}}
optim: {{lr: 1e-3}}
schedule: {{name: constant, steps: {steps}}}
train: {{method: esft, global_batch: 8, micro_batch: 1, threads: 1}}
checkpoint: {{every: {every}}}
eval: {{every: 0, before_training: false}}
log: {{tensorboard: false}}
output: {output}
"""


# A launcher that leaves the end of the job to its ranks. (hydra does not, not even with
# -disable-auto-cleanup: version 4.0.2 kills the others when it sees a rank's end by waitpid before
# it sees the end of its PMI connection, and sends SIGUSR1 otherwise.) Each rank has a shell above
# it, and the launcher hears of the rank's end only later.
NO_CLEANUP_SCRIPT = '"$0" "$@" || { code=$?; sleep 4; exit $code; }'


def mpiexec(*command, ranks=4, options=(), cleanup=True):
    shell = [] if cleanup else ["sh", "-c", NO_CLEANUP_SCRIPT]
    return ["mpiexec", *options, "-n", str(ranks), *shell, *command]


def program_argument(usage):
    """Takes the path of sutor from the command line; unittest reads what is behind it."""
    if len(sys.argv) < 2 or not pathlib.Path(sys.argv[1]).is_file():
        sys.exit(usage)
    return str(pathlib.Path(sys.argv.pop(1)).resolve())


class JobTest(unittest.TestCase):
    def check_end(self, result):
        """The job ended, soon, and not as if all were well; Jobs.run() saw nobody left over."""
        self.assertNotEqual(result.code, 0, result)
        self.assertIsNotNone(result.seconds_to_end, result)
        self.assertLess(result.seconds_to_end, GONE_SECONDS, result)


class Result:
    """What a run left: exit code, output, seconds from the fault to the end of all its ranks."""

    def __init__(self, command, code, out, err, seconds_to_end=None):
        self.command, self.code, self.out, self.err = command, code, out, err
        self.seconds_to_end = seconds_to_end

    def errors(self):
        """The lines of stderr that say what went wrong, sutor's and the launcher's."""
        return [line for line in self.err.splitlines() if re.search(r"error|BAD TERM|Abort", line)]

    def __str__(self):
        return (f"$ {' '.join(map(str, self.command))}\n{self.out[-2000:]}\n--- stderr\n"
                f"{self.err[-4000:]}\nexit code {self.code}, "
                f"{self.seconds_to_end} s from the fault to the end of the ranks")


class Jobs:
    """Recipes of one tiny training in a folder, and their runs."""

    def __init__(self, sutor, folder):
        self.sutor, self.folder = str(pathlib.Path(sutor).resolve()), pathlib.Path(folder)
        self.rows = self.folder / "rows.jsonl"
        numbers = random.Random(5)
        self.rows.write_text("".join(
            json.dumps({"input_ids": [numbers.randrange(3, 48) for _ in range(24)]}) + "\n"
            for _ in range(16)))
        self.count = 0
        first = self.recipe(prepare=False)
        subprocess.run([self.sutor, "prepare", str(first)], check=True, stdout=subprocess.DEVNULL,
                       timeout=120)
        self.tokens = first.parent / "run" / "tokens"

    def recipe(self, steps=3, every=0, prepare=True, model=MODEL):
        """A new recipe in a folder of its own; its run ends up in <folder>/run."""
        self.count += 1
        folder = self.folder / f"job-{self.count}"
        folder.mkdir()
        path = folder / "recipe.yaml"
        path.write_text(RECIPE.format(
            model=model, rows=self.rows, config=MODEL / "expert_config.json", steps=steps,
            every=every, output=folder / "run"))
        if prepare:
            shutil.copytree(self.tokens, folder / "run" / "tokens")
        return path

    def start(self, command, env=None):
        return subprocess.Popen(
            [str(part) for part in command], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True,
            env=dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1") | (env or {}))

    def run(self, command, env=None, timeout=120, on_tick=None, ranks=4):
        """Runs to the end, watching the ranks (processes that name this folder); on_tick(ranks)
        is called about every 20 ms. Raises when it does not end in time."""
        process = self.start(command, env)
        began, fault, gone, seen_all = time.monotonic(), None, None, False
        streams = Streams(process)
        while True:
            now, pids = time.monotonic(), self.rank_pids()
            seen_all = seen_all or len(pids) >= ranks
            hurt = len(pids) < ranks or any(state_of(pid) == "T" for pid in pids)
            if fault is None and seen_all and hurt:
                fault = now
            if gone is None and seen_all and not pids:
                gone = now
            if process.poll() is not None and not pids:
                break
            if now - began > timeout:
                self.kill_all(process)
                out, err = streams.text()
                raise AssertionError(f"still running after {timeout} s, ranks {pids}: "
                                     f"{Result(command, None, out, err)}")
            if on_tick:
                on_tick(pids)
            time.sleep(0.02)
        seconds = None if fault is None or gone is None else gone - fault
        out, err = streams.text()
        return Result(command, process.returncode, out, err, seconds)

    def rank_pids(self):
        return pids_of(str(self.folder))

    def kill_all(self, process):
        for pid in self.rank_pids() + [process.pid]:
            kill(pid)

    def losses(self, recipe):
        path = recipe.parent / "run" / "metrics.jsonl"
        return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


class Streams:
    """Reads both outputs of a process to their ends without waiting for it."""

    def __init__(self, process):
        self.parts = {"stdout": [], "stderr": []}
        self.threads = []
        for name, parts in self.parts.items():
            stream = getattr(process, name)
            thread = threading.Thread(target=self.read, args=(stream, parts), daemon=True)
            thread.start()
            self.threads.append(thread)

    @staticmethod
    def read(stream, parts):
        with stream:
            parts.extend(stream)

    def text(self):
        for thread in self.threads:
            thread.join(timeout=10)
        return "".join(self.parts["stdout"]), "".join(self.parts["stderr"])


def pids_of(text):
    """Processes of sutor whose command line holds this text, zombies left out, ordered by id."""
    pids = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it ended meanwhile
        if words[0].endswith("sutor") and any(text in word for word in words[1:]):
            pids.append(int(path.parent.name))
    return sorted(pids)


def rank_of(pid):
    """The rank of a process in the world, from the environment that its launcher gave it."""
    try:
        variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((int(v[9:]) for v in variables if v.startswith(b"PMI_RANK=")), None)


def state_of(pid):
    """R, S, T (stopped) ...; empty when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def has_pending(pid, number):
    """Whether a signal has come to a stopped process, which takes it when it goes on."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False  # it ended
    masks = re.findall(r"^(?:SigPnd|ShdPnd):\s+(\w+)", status, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def order_problem(folder):
    """From the journals that SUTOR_JOURNAL left: the first difference between any two ranks in the
    order of the collectives that both take part in, or of the messages from one to the other."""
    logs = {}
    for path in pathlib.Path(folder).glob("rank-*.jsonl"):
        logs[int(path.stem[5:])] = [json.loads(line) for line in path.read_text().splitlines()]
    if not logs or not all(logs.values()):
        return f"{folder} holds no journals"

    def shared(rank, other, kind):
        return [(r["name"], r["group"], r["ranks"], r["ordinal"],
                 r["number"] if kind == "collective" else None)
                for r in logs[rank] if r["kind"] == kind
                and (other in r["ranks"] if kind == "collective" else r["peer"] == other)]

    for a in logs:
        for b in logs:
            for here, there in (("collective", "collective"), ("send", "receive")):
                ours, theirs = shared(a, b, here), shared(b, a, there)
                if a != b and ours != theirs:
                    at = next((i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]),
                              min(len(ours), len(theirs)))
                    return (f"{here} {at + 1} of ranks {a} and {b}: "
                            f"{ours[at:at + 1]} and {theirs[at:at + 1]}")
    return ""
