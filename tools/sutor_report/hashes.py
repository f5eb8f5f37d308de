"""Hashes of documents and of their n-grams, of 64 bits, for many documents at once."""

import numpy as np

STEP = np.uint64(0x9E3779B97F4A7C15)


def mixed(values):
    """splitmix64: every bit of the result depends on every bit of the value."""
    with np.errstate(over="ignore"):
        x = (values.astype(np.uint64) + np.uint64(1)) * STEP
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def document_hashes(ids, starts):
    """One for every document; starts: of documents, and the end of the last."""
    place = np.arange(len(ids)) - np.repeat(starts[:-1], np.diff(starts))
    with np.errstate(over="ignore"):
        return np.add.reduceat(mixed(ids) * (mixed(place) | np.uint64(1)), starts[:-1])


def ngram_hashes(ids, starts, n):
    """(hashes, where they begin, their documents) of all n-grams inside documents."""
    if len(ids) < n:
        none = np.empty(0, dtype=np.int64)
        return none.astype(np.uint64), none, none
    words = mixed(ids)
    with np.errstate(over="ignore"):
        total = np.zeros(len(ids) - n + 1, dtype=np.uint64)
        for offset in range(n):
            total = total * STEP + words[offset : offset + len(total)]
    ends = np.repeat(starts[1:], np.diff(starts))[: len(total)]
    begins = np.flatnonzero(np.arange(len(total)) + n <= ends)
    documents = np.searchsorted(starts, begins, side="right") - 1
    return mixed(total[begins]), begins, documents
