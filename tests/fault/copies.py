#!/usr/bin/env python3
"""Starts copies of a command with the environment that torchrun gives, as it does on each host, but
leaves the end of the job to the copies; ends with the largest of their exit codes.

  copies.py WORLD FIRST COUNT ADDRESS:PORT COMMAND...     ranks FIRST to FIRST + COUNT - 1
"""

import os
import signal
import subprocess
import sys


def environment(rank, world, local_rank, local_world, place):
    address, port = place.rsplit(":", 1)
    return {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(local_rank),
            "LOCAL_WORLD_SIZE": str(local_world), "MASTER_ADDR": address, "MASTER_PORT": port}


def main():
    world, first, count = map(int, sys.argv[1:4])
    copies = [subprocess.Popen(sys.argv[5:], env=os.environ | environment(
        first + i, world, i, count, sys.argv[4])) for i in range(count)]
    signal.signal(signal.SIGTERM, lambda *_: [copy.send_signal(signal.SIGTERM) for copy in copies])
    codes = [copy.wait() for copy in copies]
    return max(code if code >= 0 else 128 - code for code in codes)


if __name__ == "__main__":
    sys.exit(main())
