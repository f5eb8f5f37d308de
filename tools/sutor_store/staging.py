"""The documents of a store that is being made: finished batches on disk, from which a job that was
stopped goes on.

A folder beside the store, `.<name>.part/`, with the files ids, mask and lengths as the store will
have them and a journal of JSON lines: first what decides the tokens, then a line for each batch, in
order, with the digest of its rows and a checksum of its documents. Whatever stands in the files
behind the last line that fits the rows is cut off.
"""

import json
import os
import shutil
import zlib

import numpy as np

from sutor_prepare.errors import PrepareError
from sutor_prepare.files import open_input

TYPES = {"ids": "<i4", "mask": "u1", "lengths": "<i8"}
BLOCK = 1 << 18  # entries that are read at once: what comes of them stays in the cache


def staging_folder(store):
    folder, name = os.path.split(store)
    return os.path.join(folder, f".{name}.part")


def remove_others(stores):
    """Staging folders beside these stores that belong to none of them: of sets that are gone."""
    ours = {staging_folder(store) for store in stores}
    for folder in {os.path.dirname(store) for store in stores}:
        if not os.path.isdir(folder or "."):
            continue
        for name in os.listdir(folder or "."):
            path = os.path.join(folder, name)
            stale = name.startswith(".") and name.endswith(".tokens.h5.part") and path not in ours
            if stale and os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)


class Staging:
    """basis: a JSON object of all that decides the documents beside their rows."""

    def __init__(self, store, basis):
        self.folder = staging_folder(store)
        self.batches = self.documents = self.tokens = self.supervised = 0
        self.max_id = -1
        self.counts = {}
        self._known = self._read_journal(basis)
        if self._known is None:
            self.remove()
            os.makedirs(self.folder)
            self._known = []
        self._files = {name: self._open(name) for name in TYPES}
        self._journal = self._open("journal")
        if not self._known:
            self._journal.truncate(0)
            self._write_line(basis)

    def _open(self, name):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.fdopen(os.open(os.path.join(self.folder, name), flags, 0o666), "r+b",
                         buffering=0)

    def _read_journal(self, basis):
        """Its lines behind the first, with their ends in bytes; None where it is another's."""
        path = os.path.join(self.folder, "journal")
        if not os.path.isfile(path):
            return None
        lines, end = [], 0
        with open_input(path, 331) as stream:
            for line in stream.readall().splitlines(keepends=True):
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    entry = None
                if not isinstance(entry, dict):
                    break  # the last one, written in part
                end += len(line)
                lines.append((entry, end))
        if not lines or lines[0][0] != json.loads(json.dumps(basis)):
            return None
        self._end = lines[0][1]
        return lines[1:]

    def resume(self, batch):
        """The faults of the batch, the next in order, when it is here already; else None."""
        if self.batches >= len(self._known):
            return None
        entry, end = self._known[self.batches]
        if not _is_entry(entry) or entry.get("rows") != batch.digest or not self._is_whole(entry):
            return None
        self._count(entry)
        self._end = end
        return [PrepareError(*fault) for fault in entry["faults"]]

    def _is_whole(self, entry):
        at = {"ids": 4 * self.tokens, "mask": self.tokens, "lengths": 8 * self.documents}
        size = {"ids": 4 * entry["tokens"], "mask": entry["tokens"],
                "lengths": 8 * entry["documents"]}
        checksum = 0
        for name in TYPES:
            part = os.pread(self._files[name].fileno(), size[name], at[name])
            if len(part) != size[name]:
                return False
            checksum = zlib.crc32(part, checksum)
        return checksum == entry["checksum"]

    def start(self):
        """After the last resume(): cuts off what stands behind."""
        if self._known:
            self._journal.truncate(self._end)
        for name, size in (("ids", 4 * self.tokens), ("mask", self.tokens),
                           ("lengths", 8 * self.documents)):
            self._files[name].truncate(size)
        for file in (*self._files.values(), self._journal):
            file.seek(0, os.SEEK_END)

    def add(self, batch, encoded):
        checksum = 0
        for name in TYPES:
            part = getattr(encoded, name).astype(TYPES[name], copy=False).tobytes()
            checksum = zlib.crc32(part, checksum)
            _write_all(self._files[name], part)
        entry = {
            "rows": batch.digest,
            "documents": len(encoded.lengths),
            "tokens": len(encoded.ids),
            "supervised": int(encoded.mask.sum()),
            "max_id": int(encoded.ids.max(initial=-1)),
            "counts": encoded.counts,
            "faults": [(error.code, str(error), error.where) for error in encoded.faults],
            "checksum": checksum,
        }
        self._write_line(entry)
        self._count(entry)

    def _count(self, entry):
        self.batches += 1
        self.documents += entry["documents"]
        self.tokens += entry["tokens"]
        self.supervised += entry["supervised"]
        self.max_id = max(self.max_id, entry["max_id"])
        add_counts(self.counts, entry["counts"])

    def _write_line(self, entry):
        _write_all(self._journal, json.dumps(entry).encode("ascii") + b"\n")

    def blocks(self, name, entries):
        """The array `name` of so many entries, in pieces."""
        for begin in range(0, entries, BLOCK):
            count = min(BLOCK, entries - begin)
            yield begin, self._read(name, begin, count)

    def _read(self, name, begin, count):
        kind = np.dtype(TYPES[name])
        content = os.pread(self._files[name].fileno(), count * kind.itemsize,
                           begin * kind.itemsize)
        return np.frombuffer(content, dtype=kind)

    def first(self, most):
        """The first documents: a list of (ids, mask)."""
        documents, at = [], 0
        for length in self._read("lengths", 0, min(most, self.documents)).tolist():
            documents.append((self._read("ids", at, length).tolist(),
                              self._read("mask", at, length).tolist()))
            at += length
        return documents

    def close(self):
        for file in (*self._files.values(), self._journal):
            file.close()

    def remove(self):
        if os.path.lexists(self.folder):
            shutil.rmtree(self.folder)


def add_counts(total, more):
    """Adds numbers by name, and those of dicts within."""
    for name, count in more.items():
        if isinstance(count, dict):
            add_counts(total.setdefault(name, {}), count)
        else:
            total[name] = total.get(name, 0) + count


def _is_entry(entry):
    numbers = [entry.get(name) for name in ("documents", "tokens", "supervised", "checksum")]
    if not _are_counts(entry.get("counts")) or type(entry.get("max_id")) is not int:
        return False
    return all(map(_is_count, numbers)) and _are_faults(entry.get("faults"))


def _is_count(value):
    return type(value) is int and value >= 0


def _are_counts(counts):
    return isinstance(counts, dict) and all(
        _is_count(each) or _are_counts(each) for each in counts.values())


def _are_faults(faults):
    return isinstance(faults, list) and all(
        isinstance(fault, list) and list(map(type, fault)) == [int, str, str] for fault in faults)


def _write_all(file, content):
    view = memoryview(content)
    while view:
        view = view[file.write(view):]
