"""Which rows for evaluation are among those for training: by the n-grams of 13 tokens that both
have. N-grams that a tenth of the evaluation rows share are the words of a template or of a prompt,
and count for nothing."""

import numpy as np

from .hashes import ngram_hashes

N = 13
MOST = 8_000_000  # n-grams in memory; of more, those with the lowest hashes
COMMON = 0.1  # of the rows of a set


class EvaluationGrams:
    """Of the documents of one set."""

    def __init__(self, store):
        parts, documents, flags = [], [], []
        for block in store.blocks(0):
            ids, mask, starts = store.content(block)
            hashes, begins, numbers = ngram_hashes(ids, starts, N)
            parts.append(hashes)
            flags.append(mask[begins + N - 1] != 0)
            documents.append(numbers + block.first)
        hashes = np.concatenate(parts or [np.empty(0, dtype=np.uint64)])
        owners = np.concatenate(documents or [np.empty(0, dtype=np.int64)])
        in_loss = np.concatenate(flags or [np.empty(0, dtype=bool)])
        if len(hashes) > MOST:
            kept = hashes <= np.partition(hashes, MOST)[MOST]
            hashes, owners, in_loss = hashes[kept], owners[kept], in_loss[kept]
        kept = ~_is_common(hashes, owners, len(store))
        hashes, owners, self._in_loss = hashes[kept], owners[kept], in_loss[kept]
        self.known, self._entry = np.unique(hashes, return_inverse=True)
        self._owners = owners
        self._count = len(store)
        self.found = np.zeros(len(self.known), dtype=bool)
        self._filter_bits = np.uint64(64 - min(max(int(len(self.known)).bit_length() + 3, 10), 26))
        self._filter = np.zeros(1 << (64 - int(self._filter_bits)), dtype=bool)
        self._filter[self.known >> self._filter_bits] = True

    def entries_in(self, hashes):
        """Which of the known n-grams are among these; for found[]."""
        if len(self.known) == 0:
            return np.empty(0, dtype=np.int64)
        hashes = hashes[self._filter[hashes >> self._filter_bits]]
        at = np.minimum(np.searchsorted(self.known, hashes), len(self.known) - 1)
        return np.unique(at[self.known[at] == hashes])

    def shares(self):
        """For every document, the share of its n-grams that were found: of all, and of those that
        end in an answer; NaN where it has none."""
        return self._shares(np.ones(len(self._owners))), self._shares(self._in_loss.astype(float))

    def _shares(self, weights):
        total = np.bincount(self._owners, weights=weights, minlength=self._count)
        hits = np.bincount(self._owners, weights=weights * self.found[self._entry],
                           minlength=self._count)
        return hits / np.where(total == 0, np.nan, total)


def _is_common(hashes, owners, count):
    """For every n-gram of a document, whether it stands in many."""
    known, entry = np.unique(hashes, return_inverse=True)
    # Once for every document that has it.
    pairs = np.unique(entry.astype(np.int64) * max(count, 1) + owners)
    rows = np.bincount(pairs // max(count, 1), minlength=len(known))
    return rows[entry] > max(COMMON * count, 2)
