"""What is measured of every document, for a block of them: what a worker does."""

import dataclasses

import numpy as np

from . import answers, duplicates, overlap
from .hashes import document_hashes, ngram_hashes

REPEATED = 4  # length of the n-grams whose repetition is measured


@dataclasses.dataclass
class Measures:
    """An entry for every document."""

    tokens: np.ndarray
    trained: np.ndarray
    hashes: np.ndarray
    bands: np.ndarray
    answers: np.ndarray
    empty: np.ndarray  # answers
    open_ended: np.ndarray
    unfinished: np.ndarray
    different: np.ndarray  # share of its n-grams that are different ones
    characters: np.ndarray  # all three are zero without a tokenizer
    scripts: np.ndarray  # [documents, scripts]
    unseen: np.ndarray  # [documents, kinds]


@dataclasses.dataclass
class Block:
    measures: Measures
    found: list  # for every evaluation set, which of its n-grams are here


class Measurer:
    """stores; evaluation: EvaluationGrams to look for in sets for training; text: a
    ModelTokenizer, or None."""

    def __init__(self, stores, evaluation, text, kinds, characters):
        self._stores = stores
        self._evaluation = evaluation
        self._text = text
        self._kinds = kinds
        self._characters = characters

    def measured(self, block):
        store = self._stores[block.store]
        ids, mask, starts = store.content(block)
        text = self._text if self._text and store.tokenizer_digest else None
        decoder = text.tokenizer if text else None
        found = []
        if store.kind == "train" and self._evaluation:
            hashes, _, _ = ngram_hashes(ids, starts, overlap.N)
            found = [each.entries_in(hashes) for each in self._evaluation]
        measures = Measures(
            np.diff(starts),
            np.add.reduceat(mask.astype(np.int64), starts[:-1]),
            document_hashes(ids, starts),
            duplicates.bands_of(ids, starts),
            *answers.look_at(ids, mask, starts, self._kinds if text else None, decoder),
            _different(ids, starts),
            *self._of_text(decoder, ids, starts),
        )
        return Block(measures, found)

    def _of_text(self, decoder, ids, starts):
        if decoder is None:
            return self._characters.count([""] * (len(starts) - 1))
        documents = [ids[begin:end].tolist() for begin, end in zip(starts, starts[1:])]
        return self._characters.count(decoder.decode_batch(documents, skip_special_tokens=False))


def _different(ids, starts):
    count = len(starts) - 1
    hashes, _, documents = ngram_hashes(ids, starts, REPEATED)
    total = np.bincount(documents, minlength=count)
    order = np.lexsort((hashes, documents))
    hashes, documents = hashes[order], documents[order]
    new = np.ones(len(hashes), dtype=bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (documents[1:] != documents[:-1])
    different = np.bincount(documents[new], minlength=count)
    return np.where(total == 0, 1.0, different / np.maximum(total, 1))


def joined(parts):
    """The measures of all blocks of a set."""
    return Measures(*(np.concatenate([getattr(part, field.name) for part in parts])
                      for field in dataclasses.fields(Measures)))
