"""A function over tasks in several processes, with the results in the order of the tasks.

Workers are forks of this process, so they share what it has loaded. Each has one task at a time and
ends with this process, however that ends. At most TASKS_AHEAD tasks for every worker, and
BYTES_AHEAD bytes of them, are in memory at once (a larger task is alone there).
"""

import collections
import ctypes
import gc
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback

from sutor_prepare import limits
from sutor_prepare.endings import StepEnd, ending_of, is_unexpected
from sutor_prepare.errors import PrepareError

TASKS_AHEAD = 2
BYTES_AHEAD = 2 << 20  # for every worker
PR_SET_PDEATHSIG = 1

# Of workers. In its own pool, here of one thread, the tokenizer library takes a quarter less time
# than without: that thread has memory of its own. A pool does not outlive a fork, so the process
# that starts them uses none.
OF_WORKERS = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "1"}

# Signals that end what went beyond a limit, as launch/job/python_step.cc has them.
OF_LIMITS = (signal.SIGKILL, signal.SIGABRT, signal.SIGXCPU, signal.SIGVTALRM, signal.SIGPROF)


class Workers:
    """At most `count` processes; `started` says how many were of use."""

    def __init__(self, count):
        self._count = count
        self.started = 0

    def map(self, work, tasks):
        """Yields (task, work(task)) in order; tasks have a `size` in bytes and a `name`, for
        messages.

        One worker, or one task: in this process. What work() or a task raises, and the end of a
        worker, is raised in its place in the order.
        """
        tasks = iter(tasks)
        ahead = list(itertools.islice(tasks, 2 if self._count > 1 else 0))
        tasks = itertools.chain(ahead, tasks)
        if len(ahead) < 2:
            for task in tasks:
                yield task, work(task)
            return
        pool = _Pool(work, self._count)
        try:
            yield from pool.map(tasks)
        finally:
            self.started = pool.started
            pool.close()


class _Slot:
    """A task and what came of it."""

    def __init__(self, task):
        self.task = task
        self.done = False
        self.error = None
        self.result = None


class _Worker:
    def __init__(self, process, connection):
        self.process = process
        self.connection = connection
        self.slot = None


class _Pool:
    def __init__(self, work, count):
        self._work = work
        self._count = count
        self.started = 0
        self._workers = []
        self._slots = collections.deque()

    def map(self, tasks):
        tasks = iter(tasks)
        waiting, failure, more = None, None, True
        while True:
            if waiting is None and more:
                try:
                    waiting = next(tasks, None)
                    more = waiting is not None
                except Exception as error:  # comes behind the tasks before it
                    failure, more = error, False
            if waiting is not None and self._has_room(waiting):
                self._send(waiting)
                waiting = None
            elif self._slots:
                self._receive()
            while self._slots and self._slots[0].done:
                slot = self._slots.popleft()
                if slot.error is not None:
                    raise slot.error
                yield slot.task, slot.result
            if not self._slots and waiting is None and not more:
                if failure is not None:
                    raise failure
                return

    def _has_room(self, task):
        if not self._slots:
            return True
        if len(self._slots) >= TASKS_AHEAD * self._count:
            return False
        size = sum(slot.task.size for slot in self._slots)
        return size + task.size <= BYTES_AHEAD * self._count and self._idle() is not None

    def _idle(self):
        """A worker without a task; started where there may be one more."""
        for worker in self._workers:
            if worker.slot is None:
                return worker
        return self._start() if len(self._workers) < self._count else None

    def _send(self, task):
        slot = _Slot(task)
        self._slots.append(slot)
        worker = self._idle()
        worker.slot = slot
        try:
            worker.connection.send(task)
        except OSError:
            self._buried(worker)

    def _receive(self):
        """Waits for a result at least."""
        busy = {worker.connection: worker for worker in self._workers if worker.slot is not None}
        for connection in multiprocessing.connection.wait(list(busy)):
            worker = busy[connection]
            try:
                failed, result = connection.recv()
            except (EOFError, OSError):
                self._buried(worker)
                continue
            slot, worker.slot = worker.slot, None
            slot.done = True
            if failed:
                slot.error = StepEnd(*result)
            else:
                slot.result = result

    def _buried(self, worker):
        """A worker that ended without a result."""
        self._workers.remove(worker)
        worker.connection.close()
        _, status = os.waitpid(worker.process, 0)
        slot = worker.slot
        slot.done = True
        slot.error = _death(os.waitstatus_to_exitcode(status), slot.task.name)

    def _start(self):
        ours, theirs = multiprocessing.Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # the collector would write to pages that all share
        parent = os.getpid()
        process = os.fork()
        if process == 0:
            try:
                for other in [worker.connection for worker in self._workers] + [ours]:
                    other.close()
                _serve(self._work, theirs, parent)
            finally:
                os._exit(0)
        theirs.close()
        self.started += 1
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def close(self):
        for worker in self._workers:
            os.kill(worker.process, signal.SIGKILL)
        for worker in self._workers:
            worker.connection.close()
            os.waitpid(worker.process, 0)
        self._workers = []


def _death(code, name):
    if code >= 0:
        return PrepareError(336, f"a worker ended with exit code {code}", name)
    number = -code
    what = f"a worker was ended by signal {number} ({signal.strsignal(number)})"
    if number in OF_LIMITS:
        return PrepareError(
            504,
            f"{what}: it was out of memory (SUTOR_STEP_MEMORY gives it another number of GiB), or "
            "a row or the tokenizer took too long (SUTOR_ROW_SECONDS)",
            name,
        )
    return PrepareError(
        336,
        f"{what}. The data, the tokenizer or the template hold something that this program does "
        "not expect",
        name,
    )


def _serve(work, connection, parent):
    """The life of a worker."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks for it asks the parent, too
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.update(OF_WORKERS)
    sending = threading.Lock()

    def send(failed, result):
        with sending:
            connection.send((failed, result))

    def end(error):  # from another thread, while this one is in a library
        send(True, ending_of(error))
        os._exit(0)

    limits.Watched.end = staticmethod(end)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            result = False, work(task)
        except BaseException as error:  # a library's panic is no Exception
            if is_unexpected(error) and os.environ.get("SUTOR_TRACEBACK"):
                traceback.print_exc()
            result = True, ending_of(error)
        try:
            send(*result)
        except OSError:
            return  # nobody waits for it
