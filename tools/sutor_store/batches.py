"""Cuts raw rows into batches: by their number and bytes alone, so that they are the same at every
number of workers and when a job that was stopped starts again."""

import dataclasses
import hashlib

from sutor_prepare.rows import range_of

BATCH_ROWS = 512
BATCH_BYTES = 1 << 19  # long rows do not pile up


@dataclasses.dataclass
class Batch:
    items: list  # of (where, raw row)
    size: int  # bytes
    digest: str  # of the rows and their places

    @property
    def name(self):
        """Where its rows are, for messages."""
        return range_of(self.items)


class _Collector:
    def __init__(self):
        self.items = []
        self.size = 0
        self._parts = []  # of what the digest covers

    def add(self, where, raw):
        content = raw if isinstance(raw, bytes) else repr(raw).encode("utf-8", "surrogatepass")
        self.items.append((where, raw))
        self.size += len(content)
        place = where.encode("utf-8", "surrogateescape")
        self._parts += (b"%d %d:" % (len(place), len(content)), place, content)

    def is_full(self):
        return len(self.items) >= BATCH_ROWS or self.size >= BATCH_BYTES

    def batch(self):
        digest = hashlib.blake2b(b"".join(self._parts), digest_size=16).hexdigest()
        return Batch(self.items, self.size, digest)


def batches_of(raw_rows):
    """What the reader fails at comes behind the rows before it."""
    collector = _Collector()
    try:
        for where, raw in raw_rows:
            collector.add(where, raw)
            if collector.is_full():
                yield collector.batch()
                collector = _Collector()
    except Exception:
        if collector.items:
            yield collector.batch()
        raise
    if collector.items:
        yield collector.batch()
