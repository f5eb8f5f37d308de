"""Runs of the program: started, watched, killed, and what they left."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fault"))
import jobs  # noqa: E402

SECONDS = 90  # no run takes as long; one that does hangs


class Done:
    """A run that ended: its code is None when it hung, -N when signal N ended it."""

    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def errors(self):
        return re.findall(r"error\[(E\d+)\]", self.err)

    def saved(self):
        """The steps that were reported as saved."""
        return [int(step) for step in re.findall(r"^.*\bsaved\b.*\bstep-(\d+)", self.out, re.M)]

    def __str__(self):
        end = "hung" if self.code is None else f"exit {self.code}"
        return f"{end}; {' / '.join(self.err.strip().splitlines()[-3:])[:300]}"


class Started:
    """A process of the program or its launcher, in a session of its own."""

    def __init__(self, command, env, folder, pre=None, cwd=None):
        self.command = command
        self.recipe = next((word for word in command if word.endswith(".yaml")), None)
        self.streams = [tempfile.TemporaryFile(mode="w+", errors="replace", dir=folder)
                        for _ in range(2)]
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=self.streams[0],
            stderr=self.streams[1], start_new_session=True, preexec_fn=pre, cwd=cwd)

    def text(self, which=0):
        return os.pread(self.streams[which].fileno(), 1 << 24, 0).decode(errors="replace")

    def wait_for(self, pattern, timeout=SECONDS, which=0):
        """Until its output holds the pattern; False when it ended before."""
        end = time.monotonic() + timeout
        while not re.search(pattern, self.text(which), re.M):
            if self.process.poll() is not None or time.monotonic() > end:
                return bool(re.search(pattern, self.text(which), re.M))
            time.sleep(0.01)
        return True

    def ranks(self):
        """The processes of sutor itself."""
        return jobs.pids_of(self.recipe) if self.recipe else []

    def wait(self, timeout=SECONDS):
        try:
            self.process.wait(timeout)
            code = self.process.returncode
        except subprocess.TimeoutExpired:
            code = None
            self.kill()
        done = Done(self.command, code, self.text(0), self.text(1))
        for stream in self.streams:
            stream.close()
        return done

    def kill(self):
        """With all its processes."""
        for pid in self.ranks():
            jobs.kill(pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
