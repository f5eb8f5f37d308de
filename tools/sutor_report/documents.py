"""Reads the documents of token stores in blocks, without holding the file in memory."""

import dataclasses

import h5py
import numpy as np

from sutor_prepare.errors import PrepareError

BLOCK_TOKENS = 1 << 18


class Store:
    """kind: train or eval. Arrays are mapped: forked workers share them."""

    def __init__(self, kind, name, path):
        self.kind, self.name, self.path = kind, name, path
        try:
            with h5py.File(path, "r", locking=False) as file:
                self.tokenizer_digest = _text(file.attrs["tokenizer_digest"])
                self.offsets = file["doc_offsets"][:].astype(np.int64)
                tokens = int(self.offsets[-1])
                self.ids = _mapped(path, file["ids"], tokens)
                self.mask = _mapped(path, file["loss_mask"], tokens)
        except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
            raise PrepareError(332, f"{path} is no token store: {error}") from error

    def __len__(self):
        return len(self.offsets) - 1

    def document(self, number):
        begin, end = self.offsets[number], self.offsets[number + 1]
        return self.ids[begin:end], self.mask[begin:end]

    def blocks(self, number):
        """Of whole documents; number: of the store, among all."""
        first = 0
        while first < len(self):
            end = int(np.searchsorted(self.offsets, self.offsets[first] + BLOCK_TOKENS))
            end = min(max(end, first + 1), len(self))
            size = int(self.offsets[end] - self.offsets[first])
            yield Block(number, first, end, 5 * size, f"{self.path}, documents {first + 1:,} "
                        f"to {end:,}")
            first = end

    def content(self, block):
        """(ids, mask, starts of the documents in them and the end of the last)."""
        begin, end = self.offsets[block.first], self.offsets[block.end]
        starts = self.offsets[block.first : block.end + 1] - begin
        return np.asarray(self.ids[begin:end]), np.asarray(self.mask[begin:end]), starts


@dataclasses.dataclass
class Block:
    store: int
    first: int  # documents [first, end)
    end: int
    size: int  # bytes
    name: str


def _text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _mapped(path, dataset, tokens):
    offset = dataset.id.get_offset()
    if tokens == 0 or offset is None:
        return dataset[:]
    return np.memmap(path, dtype=dataset.dtype, mode="r", offset=offset, shape=(tokens,))
