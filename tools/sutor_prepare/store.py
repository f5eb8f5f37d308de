"""Writes token stores; launch/data/token_store.h describes the file."""

import array
import json
import os
import struct
import tempfile

import h5py
import numpy as np

from .lines import temporary_name

CHUNK = 1 << 22  # tokens handled at once


class StoreWriter:
    """Writes documents to unnamed files on the disk of the store; finish() makes the store."""

    def __init__(self, path):
        self.path = path
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        folder = os.path.dirname(path) or "."
        self._ids = tempfile.TemporaryFile(dir=folder)
        self._mask = tempfile.TemporaryFile(dir=folder)
        self._offsets = array.array("q", [0])
        self.tokens = 0
        self.supervised = 0
        self.max_id = -1

    @property
    def documents(self):
        return len(self._offsets) - 1

    def add(self, ids, mask):
        """One document; returns how many of its tokens are in the loss."""
        ids = np.asarray(ids, dtype=np.int32)
        mask = np.asarray(mask, dtype=np.uint8)
        mask[0] = 0  # nothing predicts the first token
        self._ids.write(ids.tobytes())
        self._mask.write(mask.tobytes())
        self.tokens += len(ids)
        self._offsets.append(self.tokens)
        supervised = int(mask.sum())
        self.supervised += supervised
        self.max_id = max(self.max_id, int(ids.max()))
        return supervised

    def finish(self, attributes):
        """Publishes the store with these attributes beside those it counts itself."""
        temporary = temporary_name(self.path)
        try:
            # The file is nobody else's until it is renamed, and some file systems have no locks.
            with h5py.File(temporary, "w", libver=("v110", "v110"), locking=False) as file:
                checksum = self._write_arrays(file)
                counted = {
                    "format": "sutor.token_store",
                    "format_version": 1,
                    "documents": self.documents,
                    "tokens": self.tokens,
                    "supervised_tokens": self.supervised,
                    "max_id": self.max_id,
                }
                for name, value in {**attributes, **counted}.items():
                    if isinstance(value, int):
                        file.attrs.create(name, value, dtype=np.int64)
                    else:
                        _set_text(file, name, value)
                file.attrs.create("checksum", checksum, dtype=np.uint64)
                file.attrs.create("sealed", 1, dtype=np.int64)
            _seal(temporary)
            _fsync(temporary)
            os.replace(temporary, self.path)
            _fsync(os.path.dirname(self.path) or ".")
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)

    def _write_arrays(self, file):
        """Returns the checksum of ids, mask and offsets."""
        ids = file.create_dataset("ids", (self.tokens,), dtype="<i4")
        mask = file.create_dataset("loss_mask", (self.tokens,), dtype="u1")
        offsets = np.frombuffer(self._offsets, dtype=np.int64)
        file.create_dataset("doc_offsets", data=offsets, dtype="<i8")
        self._ids.seek(0)
        self._mask.seek(0)
        checksum = np.uint64(0)
        with np.errstate(over="ignore"):
            for begin in range(0, self.tokens, CHUNK):
                count = min(CHUNK, self.tokens - begin)
                part = np.frombuffer(self._ids.read(4 * count), dtype=np.int32)
                flags = np.frombuffer(self._mask.read(count), dtype=np.uint8)
                ids[begin : begin + count] = part
                mask[begin : begin + count] = flags
                place = np.arange(begin + 1, begin + count + 1, dtype=np.uint64)
                value = part.astype(np.uint64) * np.uint64(2) + flags + np.uint64(1)
                checksum += np.sum(place * value, dtype=np.uint64)
            place = np.arange(len(offsets), dtype=np.uint64) + np.uint64(self.tokens + 1)
            checksum += np.sum(place * offsets.astype(np.uint64), dtype=np.uint64)
        return checksum


def _set_text(file, name, value):
    """Of fixed length: the library keeps others in a heap, of which no byte is checked."""
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False, sort_keys=True)
    text = value.encode("utf-8")
    kind = h5py.string_dtype("utf-8", max(len(text), 1))
    file.attrs.create(name, np.array(text, dtype=kind), dtype=kind)


def _seal(path):
    """Appends the sum of all bytes, as csrc/base/hdf5/seal.cc does."""
    total, words = np.uint64(0), 0
    with open(path, "r+b") as file, np.errstate(over="ignore"):
        while block := file.read(4 * CHUNK):
            part = np.frombuffer(block + bytes(-len(block) % 4), dtype="<u4").astype(np.uint64)
            place = np.arange(words + 1, words + len(part) + 1, dtype=np.uint64)
            total += np.sum(part * place, dtype=np.uint64)
            words += len(part)
        file.write(struct.pack("<8sQQ", b"SUTORSUM", file.tell(), int(total)))


def _fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
