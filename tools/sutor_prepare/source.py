"""One data set: its rows, in batches, through format, mask and tokenizer into a token store."""

import time

from . import inputs
from . import rows as row_kinds
from .encode import Encoder
from .ends import COUNTED, frame, trained_ends
from .errors import PrepareError
from .masks import MaskMaker
from .spans import parts_of_spans
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
        self.format = source["format"]
        self.guessed = self.format == "auto"
        self.shown = []  # the first documents: (ids, mask)
        self.counts = {"empty": 0, "all_masked": 0, "longer_than_seq_len": 0, "special_in_text": 0,
                       "with_own_ends": 0}
        self._masks = None

    def run(self):
        begin = time.monotonic()
        self.reader = row_kinds.RowReader(self._source["path"])
        self.writer = StoreWriter(self._source["out"])
        batch, characters = [], 0
        for where, row in self.reader:
            if self.format == "auto":
                self.format = row_kinds.detect_format(row, where)
            documents = self._documents(row, where)
            batch += [(where, document) for document in documents]
            characters += sum(len(part[0]) for document in documents for part in document
                              if isinstance(part[0], str))
            if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                self._write(batch)
                batch, characters = [], 0
        self._write(batch)
        self._finish()
        self.seconds = time.monotonic() - begin

    def _documents(self, row, where):
        """The documents of a row as lists of (text or id, in the loss)."""
        if self.format == "tokens":
            return [list(zip(*row_kinds.tokens_of(row, where)))]
        tokenizer = self._tokenizer()
        if self.format == "messages":
            return self._conversation(row, where)
        if self.format == "text":
            text = row_kinds.text_of(row, "text", where)
            self._count_specials([text])
            if not text:
                self.counts["empty"] += 1
                return []
            return [self._framed([(text, True)])]
        prompt = row_kinds.text_of(row, "prompt", where)
        completion = row_kinds.completion_of(row, where)
        self._count_specials([prompt, completion])
        return [self._framed([(prompt, self._job["loss_on"] == "all"), (completion, True)])]

    def _framed(self, parts):
        """With the begin and the end token of plain text."""
        begin, end, already = frame(self._tokenizer(), [text for text, _ in parts])
        self.counts["with_own_ends"] += already
        if self._tokenizer().eos_id >= 0:
            name = f"{COUNTED}{self._tokenizer().eos_id}"
            self.counts[name] = self.counts.get(name, 0) + 1
        return begin + parts + end

    def _conversation(self, row, where):
        messages = row_kinds.messages_of(row, where)
        if self._masks is None:
            if self._template() is None:
                raise row_kinds.no_template(self._job["template"], where)
            self._masks = MaskMaker(
                self._template(),
                self._tokenizer(),
                self._job["loss_on"],
                self._job.get("loss_on_thinking", True),
            )
        self._count_specials([message.get("content") or "" for message in messages])
        samples = self._masks.samples(messages, row.get("tools"), where)
        return [parts_of_spans(text, spans) for text, spans in samples if text]

    def _count_specials(self, texts):
        special = self._tokenizer().special_pattern
        self.counts["special_in_text"] += any(special.search(text) for text in texts)

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
        if self.writer.supervised == 0:
            raise PrepareError(
                334,
                f"{path}: no token of its {self.writer.documents} documents is in the loss. Check "
                f"data.loss_on ({self._job['loss_on']}), and roles, masks or labels of the rows",
            )
        tokenizer = None if self.format == "tokens" else self._tokenizer()
        if self._masks is not None:
            self.counts |= self._masks.take_counts()
        template = self._template() if self.format == "messages" else None
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
                    "end_tokens": sorted(trained_ends(self.counts)),
                },
                "counts": self.counts,
                "inputs": self._inputs(tokenizer, template),
            }
        )

    def ends_disagree(self):
        """A sentence when the model's files name other end tokens than the rows train."""
        trained = trained_ends(self.counts)
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
