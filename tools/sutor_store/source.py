"""A batch of rows through form, mask and tokenizer: what a worker does for one data set.

Its result depends on the rows, their places and the options alone.
"""

import dataclasses

import numpy as np

from sutor_rows.reader import RowReader

from sutor_prepare import rows as row_kinds
from sutor_prepare.documents import DocumentMaker
from sutor_prepare.encode import Encoder
from sutor_prepare.errors import PrepareError
from sutor_prepare.holdout import Side
from sutor_prepare.row_faults import OF_ROWS


@dataclasses.dataclass
class Encoded:
    """Documents one after the other, what was counted over their rows, and the rows left out."""

    ids: np.ndarray  # int32
    mask: np.ndarray  # uint8
    lengths: np.ndarray  # int64, of the documents
    counts: dict  # of numbers, and of dicts of numbers
    faults: list  # PrepareError of rows that cannot be used


class Source:
    """job: the recipe's keys; spec: one of its sources; form: of its rows, known; tokenizer and
    template are functions."""

    def __init__(self, job, spec, form, tokenizer, template):
        self._job = job
        self._form = form
        self._tokenizer = tokenizer
        self._maker = DocumentMaker(job, {**spec, "format": form}, tokenizer, template)
        self._side = Side(spec)

    def encoded(self, batch):
        """The documents of a batch (batches.py). Raises the first error, in the order of rows, that
        is not one row's own."""
        self._counts = {"own_rows": 0, "empty": 0, "all_masked": 0, "longer_than_seq_len": 0}
        documents, faults, failure = [], [], None
        for where, raw in batch.items:
            try:
                documents += [(where, document) for document in self._documents(raw, where)]
            except PrepareError as error:
                if error.code in OF_ROWS and error.where:
                    faults.append(error)
                    continue
                failure = error
                break
        kept = self._kept(documents)
        if failure is not None:
            raise failure
        made = self._maker.take_counts()
        self._counts["empty"] += made.pop("empty")
        return Encoded(*_arrays(kept), {**self._counts, **made}, faults)

    def _documents(self, raw, where):
        """Of a row that can be used."""
        row = RowReader.row_of(raw, where)
        if not self._side.has(row):
            return []
        self._counts["own_rows"] += 1
        documents = self._maker.of(row, where)
        if self._form == "tokens":
            for document in documents:
                ids = [token for token, _ in document]
                row_kinds.check_vocabulary(ids, self._job["model_vocab"], where)
        return documents

    def _kept(self, documents):
        """(ids, mask) of the documents that are not empty."""
        kept = []
        for (where, _), (ids, mask) in zip(documents, self._tokens_of(documents)):
            if not ids:
                self._counts["empty"] += 1
                continue
            row_kinds.check_vocabulary(ids, self._job["model_vocab"], where)
            mask[0] = 0  # nothing predicts the first token
            self._counts["all_masked"] += not any(mask)
            self._counts["longer_than_seq_len"] += len(ids) > self._job["seq_len"]
            kept.append((ids, mask))
        return kept

    def _tokens_of(self, documents):
        parts = [document for _, document in documents]
        if self._form == "tokens":
            return [tuple(map(list, zip(*document))) for document in parts]
        if not parts:
            return []
        return Encoder(self._tokenizer()).encode(parts, row_kinds.range_of(documents))


def _arrays(documents):
    ids = [np.asarray(ids, dtype="<i4") for ids, _ in documents]
    mask = [np.asarray(mask, dtype="u1") for _, mask in documents]
    none = np.empty(0)
    lengths = np.asarray([len(each) for each in ids], dtype="<i8")
    return (np.concatenate(ids or [none.astype("<i4")]),
            np.concatenate(mask or [none.astype("u1")]), lengths)
