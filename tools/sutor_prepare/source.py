"""One data set: its rows, in batches, through format, mask and tokenizer into a token store."""

import json
import time

from sutor_rows.reader import RowReader

from . import inputs
from . import rows as row_kinds
from .documents import DocumentMaker
from .encode import Encoder
from .errors import PrepareError
from .holdout import Side
from .row_faults import RowFaults
from .store import StoreWriter

BATCH_ROWS = 512
# A batch also ends at this size, so that long rows do not pile up.
BATCH_CHARACTERS = 1 << 22


class Source:
    """job: the recipe's keys; tokenizer and template are functions that load on first use."""

    def __init__(self, job, source, tokenizer, template):
        self._job = job
        self._source = source
        self._tokenizer = tokenizer
        self._template = template
        self._maker = DocumentMaker(job, source, tokenizer, template)
        self.guessed = source["format"] == "auto"
        self.shown = []  # the first documents: (ids, mask)
        self.counts = {"empty": 0, "all_masked": 0, "longer_than_seq_len": 0, "special_in_text": 0}
        self.side = Side(source)
        self.own_rows = 0  # on this side
        self.faults = RowFaults(source["path"], job.get("strict", False))

    def run(self):
        begin = time.monotonic()
        self.reader = RowReader(self._source["path"], self._source.get("files"))
        self.writer = StoreWriter(self._source["out"])
        batch, characters = [], 0
        for where, raw in self.reader.raw():
            documents = self._documents(raw, where)
            batch += [(where, document) for document in documents]
            characters += sum(len(part[0]) for document in documents for part in document
                              if isinstance(part[0], str))
            if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                self._write(batch)
                batch, characters = [], 0
        self._write(batch)
        self._finish()
        self.seconds = time.monotonic() - begin

    @property
    def format(self):
        return self._maker.form

    def _documents(self, raw, where):
        """Of a row that can be used."""
        try:
            row = RowReader.row_of(raw, where)
            if not self.side.has(row):
                return []
            self.own_rows += 1
            documents = self._maker.of(row, where)
            if self.format == "tokens":
                for document in documents:
                    ids = [token for token, _ in document]
                    row_kinds.check_vocabulary(ids, self._job["model_vocab"], where)
            return documents
        except PrepareError as error:
            self.faults.add(error)
        return []

    def _write(self, batch):
        if not batch:
            return
        documents = [document for _, document in batch]
        if self.format == "tokens":
            encoded = [tuple(map(list, zip(*document))) for document in documents]
        else:
            encoded = Encoder(self._tokenizer()).encode(documents, row_kinds.range_of(batch))
        for (where, _), (ids, mask) in zip(batch, encoded):
            if not ids:
                self.counts["empty"] += 1
                continue
            row_kinds.check_vocabulary(ids, self._job["model_vocab"], where)
            supervised = self.writer.add(ids, mask)
            self.counts["all_masked"] += supervised == 0
            self.counts["longer_than_seq_len"] += len(ids) > self._job["seq_len"]
            if len(self.shown) < self._job["show"]:
                self.shown.append((ids, [0] + list(mask[1:])))

    def _finish(self):
        path = self._source["path"]
        if self.reader.rows == 0:
            raise PrepareError(334, f"{path} holds no rows")
        self.faults.check(self.reader.rows)
        self.side.require_rows(self.own_rows, self.reader.rows)
        if self.writer.supervised == 0:
            raise PrepareError(
                334,
                f"{path}: no token of its {self.writer.documents} documents is in the loss. Check "
                f"data.loss_on ({self._job['loss_on']}), and roles, masks or labels of the rows",
            )
        tokenizer = None if self.format == "tokens" else self._tokenizer()
        maker = self._maker
        self.counts["empty"] += maker.empty
        self.counts["special_in_text"] = maker.special_in_text
        self.counts["framed_before"] = maker.framed_before
        self.counts["not_chosen"] = maker.forms.not_chosen
        self.counts |= self.faults.counts()
        if maker.masks is not None:
            self.counts["rows_as_turns"] = maker.masks.per_turn
            self.counts["turns_without_stop"] = maker.masks.turn_ends.without
        template = self._template() if maker.masks is not None else None
        self.writer.finish(
            {
                "producer": self._job["producer"],
                "tokenizer_digest": tokenizer.digest if tokenizer else "",
                "template_digest": template.digest() if template else "",
                "source_name": self._source["name"],
                "source_digest": self.reader.digest(),
                "source_bytes": self.reader.bytes,
                "rows": self.reader.rows,
                "vocab_size": self._vocab_size(tokenizer),
                "bos_id": tokenizer.bos_id if tokenizer else -1,
                "eos_id": tokenizer.eos_id if tokenizer else -1,
                "options": {
                    "format": self.format,
                    "loss_on": self._job["loss_on"],
                    "tokenizer": self._job["tokenizer"],
                    "template": self._job["template"],
                    "loss_on_thinking": self._job.get("loss_on_thinking", True),
                    "end_tokens": sorted(self.end_tokens()),
                    "columns": columns_text(self._source.get("columns")),
                    **self.side.options(),
                },
                "counts": self.counts,
                "inputs": self._inputs(tokenizer, template),
            }
        )
        self.left_out_file = self.faults.publish(self._source["out"])

    def row_notes(self):
        """Lines about rows that were left out and keys that nobody read."""
        notes = []
        if self.counts["not_chosen"]:
            notes.append(f"{self.counts['not_chosen']:,} rows left out: their `label` is false")
        unread = self._maker.unread_keys()
        if unread:
            names = ", ".join(f"{name} ({count:,})" for name, count in unread.items())
            notes.append(f"warning[W0111]: not read, as nothing here gives it a meaning: {names}")
        return notes + self.faults.lines(self.reader.rows, self.left_out_file)

    def end_tokens(self):
        """{id: how often} of the tokens that end what is trained."""
        if self.format == "tokens":
            return {}
        tokenizer = self._tokenizer()
        masks = self._maker.masks
        if masks is None:
            return {tokenizer.eos_id: self._maker.framed} if self._maker.framed else {}
        trained = masks.turn_ends.trained
        return {tokenizer.tokenizer.token_to_id(text): count for text, count in trained.items()}

    def ends_disagree(self):
        """A sentence when the model's files name other end tokens than the rows train."""
        trained = self.end_tokens()
        if not trained:
            return None
        tokenizer = self._tokenizer()
        return tokenizer.ends.disagreement(trained, tokenizer.tokenizer.id_to_token)

    def _inputs(self, tokenizer, template):
        if tokenizer is None:
            return {}
        wanted = self._job["template"] if template else None
        return inputs.digests(tokenizer.folders[0], self._job["model"], wanted)

    def _vocab_size(self, tokenizer):
        if self._job["model_vocab"] is not None:
            return self._job["model_vocab"]
        return tokenizer.vocab_size() if tokenizer else self.writer.max_id + 1


def columns_text(columns):
    """As launch/steps/stage_checks.cc writes them for comparison."""
    if not columns:
        return ""
    return json.dumps(columns, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
