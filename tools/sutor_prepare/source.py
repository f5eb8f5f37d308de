"""A batch of rows through format, mask and tokenizer: what a worker does for one data set.

Its result depends on the rows, their places and the options alone.
"""

import dataclasses

import numpy as np

from . import rows as row_kinds
from .encode import Encoder, parts_of_spans
from .errors import PrepareError
from .masks import MaskMaker


@dataclasses.dataclass
class Encoded:
    """Documents one after the other, and what was counted over their rows."""

    ids: np.ndarray  # int32
    mask: np.ndarray  # uint8
    lengths: np.ndarray  # int64, of the documents
    counts: dict


class Source:
    """job: the recipe's keys; format: of the rows, known; tokenizer and template are functions."""

    def __init__(self, job, format, tokenizer, template):
        self._job = job
        self.format = format
        self._tokenizer = tokenizer
        self._template = template
        self.counts = self._no_counts()
        self._masks = None

    @staticmethod
    def _no_counts():
        return {"empty": 0, "all_masked": 0, "longer_than_seq_len": 0, "special_in_text": 0}

    def encoded(self, batch):
        """The documents of a batch (batches.py). Raises the first error in the order of rows."""
        self.counts = self._no_counts()
        documents, failure = [], None
        for where, raw in batch.items:
            try:
                row = row_kinds.RowReader.row_of(raw, where)
                documents += [(where, document) for document in self._documents(row, where)]
            except PrepareError as error:
                failure = error
                break
        kept = self._kept(documents)
        if failure is not None:
            raise failure
        if self._masks is not None:
            self.counts |= self._masks.take_counts()
        return Encoded(*_arrays(kept), self.counts)

    def _kept(self, documents):
        """(ids, mask) of the documents that are not empty."""
        kept = []
        for (where, _), (ids, mask) in zip(documents, self._tokens_of(documents)):
            if not ids:
                self.counts["empty"] += 1
                continue
            row_kinds.check_vocabulary(ids, self._job["model_vocab"], where)
            mask[0] = 0  # nothing predicts the first token
            self.counts["all_masked"] += not any(mask)
            self.counts["longer_than_seq_len"] += len(ids) > self._job["seq_len"]
            kept.append((ids, mask))
        return kept

    def _tokens_of(self, documents):
        parts = [document for _, document in documents]
        if self.format == "tokens":
            return [tuple(map(list, zip(*document))) for document in parts]
        if not parts:
            return []
        return Encoder(self._tokenizer()).encode(parts, row_kinds.range_of(documents))

    def _documents(self, row, where):
        """The documents of a row as lists of (text or id, in the loss)."""
        if self.format == "tokens":
            return [list(zip(*row_kinds.tokens_of(row, where)))]
        tokenizer = self._tokenizer()
        if self.format == "messages":
            return self._conversation(row, where)
        begin = [(tokenizer.bos_id, False)] if tokenizer.add_bos else []
        end = [(tokenizer.eos_id, True)] if tokenizer.eos_id >= 0 else []
        if self.format == "text":
            text = row_kinds.text_of(row, "text", where)
            self._count_specials([text])
            if not text:
                self.counts["empty"] += 1
                return []
            return [begin + [(text, True)] + end]
        prompt = row_kinds.text_of(row, "prompt", where)
        completion = row_kinds.completion_of(row, where)
        self._count_specials([prompt, completion])
        return [begin + [(prompt, self._job["loss_on"] == "all"), (completion, True)] + end]

    def _conversation(self, row, where):
        messages = row_kinds.messages_of(row, where)
        if self._masks is None:
            if self._template() is None:
                raise row_kinds.no_template(self._job["template"], where)
            self._masks = MaskMaker(
                self._template(), self._job["loss_on"], self._tokenizer().special_pattern
            )
        self._count_specials([message.get("content") or "" for message in messages])
        samples = self._masks.samples(messages, row.get("tools"), where)
        return [parts_of_spans(text, spans) for text, spans in samples if text]

    def _count_specials(self, texts):
        special = self._tokenizer().special_pattern
        self.counts["special_in_text"] += any(special.search(text) for text in texts)


def _arrays(documents):
    ids = [np.asarray(ids, dtype="<i4") for ids, _ in documents]
    mask = [np.asarray(mask, dtype="u1") for _, mask in documents]
    none = np.empty(0)
    lengths = np.asarray([len(each) for each in ids], dtype="<i8")
    return (np.concatenate(ids or [none.astype("<i4")]),
            np.concatenate(mask or [none.astype("u1")]), lengths)
