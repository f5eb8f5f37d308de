"""Writes token stores; launch/data/token_store.h describes the file."""

import json
import os
import struct

import h5py
import numpy as np

from sutor_prepare.lines import temporary_name

BLOCK = 1 << 20  # bytes that are summed at once: what comes of them stays in the cache


def write_store(path, staging, attributes):
    """Publishes the documents of a staging with these attributes beside those that it counts."""
    temporary = temporary_name(path)
    try:
        # The file is nobody else's until it is renamed, and some file systems have no locks.
        with h5py.File(temporary, "w", libver=("v110", "v110"), locking=False) as file:
            checksum = _write_arrays(file, staging)
            counted = {
                "format": "sutor.token_store",
                "format_version": 1,
                "documents": staging.documents,
                "tokens": staging.tokens,
                "supervised_tokens": staging.supervised,
                "max_id": staging.max_id,
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
        os.replace(temporary, path)
        _fsync(os.path.dirname(path) or ".")
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _write_arrays(file, staging):
    """Returns the checksum of ids, mask and offsets."""
    tokens, documents = staging.tokens, staging.documents
    ids = file.create_dataset("ids", (tokens,), dtype="<i4")
    mask = file.create_dataset("loss_mask", (tokens,), dtype="u1")
    offsets = file.create_dataset("doc_offsets", (documents + 1,), dtype="<i8")
    checksum = np.uint64(0)
    with np.errstate(over="ignore"):
        parts = zip(staging.blocks("ids", tokens), staging.blocks("mask", tokens))
        for (begin, part), (_, flags) in parts:
            ids[begin : begin + len(part)] = part
            mask[begin : begin + len(part)] = flags
            place = np.arange(begin + 1, begin + len(part) + 1, dtype=np.uint64)
            value = part.astype(np.uint64) * np.uint64(2) + flags + np.uint64(1)
            checksum += np.sum(place * value, dtype=np.uint64)
        offsets[0] = last = 0
        for begin, lengths in staging.blocks("lengths", documents):
            ends = np.cumsum(lengths, dtype=np.int64) + last
            last = int(ends[-1])
            offsets[begin + 1 : begin + 1 + len(ends)] = ends
            place = np.arange(len(ends), dtype=np.uint64) + np.uint64(tokens + 2 + begin)
            checksum += np.sum(place * ends.astype(np.uint64), dtype=np.uint64)
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
        while block := file.read(BLOCK):
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
