"""The ranks of one host: copies of a command with torchrun's environment, which find each other and
those of the other hosts by it. Their output passes through; signals are handed on.
"""

import os
import signal
import subprocess
import sys
import threading
import time

from sutor_sagemaker.plan import MASTER_PORT

GRACE_SECONDS = 60  # what ranks have to end after one of them has failed


class Ranks:
    def __init__(self):
        self.processes, self.threads = [], []
        self.asked = None  # the signal that the service sent
        self.errors, self.last = [], ""
        self.lock = threading.Lock()

    def note(self, number, _frame):
        self.asked = number
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def environment(self, plan, local_rank):
        values = dict(os.environ)
        if plan.interface and len(plan.hosts) > 1:
            values.setdefault("NCCL_SOCKET_IFNAME", plan.interface)
            values.setdefault("UCX_NET_DEVICES", plan.interface)
        return values | {
            "RANK": str(plan.host * plan.ranks_here + local_rank),
            "WORLD_SIZE": str(plan.world_size), "LOCAL_RANK": str(local_rank),
            "LOCAL_WORLD_SIZE": str(plan.ranks_here), "GROUP_RANK": str(plan.host),
            # (The name of a host that is alone need not be known to anybody.)
            "MASTER_ADDR": plan.hosts[0] if len(plan.hosts) > 1 else "127.0.0.1",
            "MASTER_PORT": os.environ.get("MASTER_PORT", str(MASTER_PORT))}

    def start(self, command, environment):
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, errors="replace")
        thread = threading.Thread(target=self.pass_on, args=(process.stderr,), daemon=True)
        thread.start()
        self.processes.append(process)
        self.threads.append(thread)

    def pass_on(self, stream):
        with stream:
            for line in stream:
                sys.stderr.write(line)
                sys.stderr.flush()
                with self.lock:
                    self.last = line.strip() or self.last
                    if "error[" in line:
                        self.errors.append(line.strip())

    def failure(self, code):
        """One line on why it ended."""
        with self.lock:
            reason = self.errors[0] if self.errors else self.last
        return reason or f"sutor ended with exit code {code} and no message; see the job's log"

    def run(self, commands, on_tick):
        """Starts (command, environment) pairs, waits for all of them; the exit code of the job."""
        self.processes, self.threads = [], []
        for command, environment in commands:
            self.start(command, environment)
        if self.asked is not None:
            self.note(self.asked, None)  # it came while they were started
        failed_at = None
        while any(process.poll() is None for process in self.processes):
            failed = any(process.poll() not in (None, 0) for process in self.processes)
            if failed and failed_at is None:
                failed_at = time.monotonic()
            if failed_at is not None and time.monotonic() - failed_at > GRACE_SECONDS:
                for process in self.processes:
                    if process.poll() is None:
                        process.kill()
            on_tick()
            time.sleep(0.1)
        for thread in self.threads:
            thread.join(timeout=10)
        # A rank that a signal ended counts least: it is a consequence, or says nothing.
        codes = [process.returncode for process in self.processes if process.returncode != 0]
        own = [code for code in codes if code > 0]
        return max(own) if own else 128 - codes[0] if codes else 0
