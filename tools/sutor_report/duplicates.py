"""Documents that are alike: exactly, and nearly (of the 5-grams of both together, four fifths are
in both). Candidates for the latter share a band of four of twenty minimal hashes; each is then
compared with the first document of its band."""

import numpy as np

from .hashes import mixed, ngram_hashes

N = 5
BANDS, ROWS = 5, 4
ALIKE = 0.8
MOST_DOCUMENTS = 2_000_000  # among which near duplicates are looked for
MOST_COMPARISONS = 300_000


def bands_of(ids, starts):
    """uint64 [documents, BANDS]; 0 for documents that are too short to say."""
    count = len(starts) - 1
    hashes, _, documents = ngram_hashes(ids, starts, N)
    bands = np.zeros((count, BANDS), dtype=np.uint64)
    if len(hashes) == 0:
        return bands
    there, begins = np.unique(documents, return_index=True)
    for band in range(BANDS):
        total = np.zeros(len(there), dtype=np.uint64)
        for row in range(ROWS):
            salt = mixed(np.array([band * ROWS + row]))[0]
            least = np.minimum.reduceat((hashes ^ salt) * (salt | np.uint64(1)), begins)
            total = mixed(total ^ least)
        bands[there, band] = total | np.uint64(1)
    return bands


def repeated(hashes):
    """For every document: whether an earlier one has the same hash."""
    result = np.ones(len(hashes), dtype=bool)
    result[np.unique(hashes, return_index=True)[1]] = False
    return result


def nearly_repeated(store, bands, exact):
    """(For every document: whether it is nearly an earlier one, and not exactly; pairs of such
    documents; whether all were compared.)"""
    near = np.zeros(len(store), dtype=bool)
    pairs, comparisons = [], 0
    for band in range(BANDS):
        column = bands[:, band]
        order = np.argsort(column, kind="stable")
        first = 0
        for at, number in enumerate(order.tolist()):
            if column[number] != column[order[first]]:
                first = at
            leader = int(order[first])
            if at == first or column[number] == 0 or near[number] or exact[number]:
                continue
            if comparisons == MOST_COMPARISONS:
                return near, pairs, False
            comparisons += 1
            if likeness(store, leader, number) >= ALIKE:
                near[number] = True
                pairs.append((leader, number))
    return near, sorted(pairs), True


def likeness(store, one, other):
    """The share of their 5-grams that both have."""
    first, second = _grams(store, one), _grams(store, other)
    both = len(np.intersect1d(first, second, assume_unique=True))
    return both / max(len(first) + len(second) - both, 1)


def _grams(store, number):
    ids = np.asarray(store.document(number)[0])
    return np.unique(ngram_hashes(ids, np.array([0, len(ids)]), N)[0])
