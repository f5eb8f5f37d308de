"""One data set: its rows, in batches, through workers into a token store, from where an earlier job
was stopped."""

import contextlib
import datetime
import itertools
import os
import resource
import time

import jinja2
import tokenizers

from . import inputs
from . import rows as row_kinds
from .batches import batches_of
from .errors import PrepareError
from .source import Source
from .staging import Staging
from .store import write_store
from .workers import Workers

# Keys of a job that change no token.
OF_NO_TOKEN = ("sources", "show", "ids", "colour", "workers", "report")


class DataSet:
    """job: the recipe's keys; spec: one of its sources; tokenizer and template are functions that
    load on first use."""

    def __init__(self, job, spec, tokenizer, template):
        self._job = job
        self._spec = spec
        self._tokenizer = tokenizer
        self._template = template
        self.format = spec["format"]
        self.guessed = self.format == "auto"
        self.resumed = 0  # documents that were there already
        self._workers = Workers(job["workers"])

    def run(self, look):
        """look(documents): called once with the first job["show"] of them, as soon as they are
        there; documents is a list of (ids, mask)."""
        begin = time.monotonic()
        os.makedirs(os.path.dirname(self._spec["out"]) or ".", exist_ok=True)
        self.reader = row_kinds.RowReader(self._spec["path"])
        batches = batches_of(self.reader.raw())
        first = next(batches, None)
        if first is None:
            raise PrepareError(334, f"{self._spec['path']} holds no rows")
        if self.guessed:
            self.format = _format_of(first)
        self._load()
        staging = Staging(self._spec["out"], self._basis())
        try:
            self._fill(staging, itertools.chain([first], batches), look)
            self._publish(staging)
        except BaseException:
            if staging.batches == 0:
                staging.remove()
            raise
        finally:
            staging.close()
        staging.remove()
        self.seconds = time.monotonic() - begin

    def processes(self):
        """How many had work to do."""
        return max(self._workers.started, 1)

    def peak_memory(self):
        """Bytes that this process and its workers had in memory, at most: what they share counts
        for each of them."""
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return (own + self._workers.started * largest) << 10

    def _load(self):
        """What workers share with this process."""
        self.tokenizer = None if self.format == "tokens" else self._tokenizer()
        self.template = self._template() if self.format == "messages" else None

    def _fill(self, staging, batches, look):
        looked = not self._job["show"]
        batch = next(batches, None)
        while batch is not None and staging.resume(batch):
            batch = next(batches, None)
        staging.start()
        self.resumed = staging.documents
        rest = itertools.chain([] if batch is None else [batch], batches)
        source = Source(self._job, self.format, self._tokenizer, self._template)
        with contextlib.closing(self._workers.map(source.encoded, rest)) as results:
            for done, encoded in results:
                staging.add(done, encoded)
                if not looked and staging.documents >= self._job["show"]:
                    look(staging.first(self._job["show"]))
                    looked = True
        if not looked:
            look(staging.first(self._job["show"]))
        self.counts = staging.counts
        self.documents, self.tokens = staging.documents, staging.tokens
        self.supervised = staging.supervised

    def _publish(self, staging):
        if staging.supervised == 0:
            raise PrepareError(
                334,
                f"{self._spec['path']}: no token of its {staging.documents} documents is in the "
                f"loss. Check data.loss_on ({self._job['loss_on']}), and roles, masks or labels "
                "of the rows",
            )
        write_store(
            self._spec["out"],
            staging,
            {
                "producer": self._job["producer"],
                **self._digests(),
                "source_name": self._spec["name"],
                "source_digest": self.reader.digest(),
                "source_bytes": self.reader.bytes,
                "rows": self.reader.rows,
                "vocab_size": self._vocab_size(staging),
                "bos_id": self.tokenizer.bos_id if self.tokenizer else -1,
                "eos_id": self.tokenizer.eos_id if self.tokenizer else -1,
                "options": {
                    "format": self.format,
                    "loss_on": self._job["loss_on"],
                    "tokenizer": self._job["tokenizer"],
                    "template": self._job["template"],
                },
                "counts": staging.counts,
                "inputs": self._inputs(),
            },
        )

    def _digests(self):
        return {
            "tokenizer_digest": self.tokenizer.digest if self.tokenizer else "",
            "template_digest": self.template.digest() if self.template else "",
        }

    def _inputs(self):
        if self.tokenizer is None:
            return {}
        wanted = self._job["template"] if self.template else None
        return inputs.digests(self.tokenizer.folders[0], self._job["model"], wanted)

    def _basis(self):
        """All that decides the documents beside their rows: an unfinished store of another basis
        is of no use."""
        basis = {
            "job": {key: value for key, value in self._job.items() if key not in OF_NO_TOKEN},
            "set": {key: value for key, value in self._spec.items() if key != "out"},
            "format": self.format,
            **self._digests(),
            "inputs": self._inputs(),
            "program": inputs.program_digest(),
            "libraries": [tokenizers.__version__, jinja2.__version__],
        }
        if self.template and "strftime_now" in self.template.source:
            date = os.environ.get("SOURCE_DATE_EPOCH") or datetime.date.today().isoformat()
            basis["date"] = date
        return basis

    def _vocab_size(self, staging):
        if self._job["model_vocab"] is not None:
            return self._job["model_vocab"]
        return self.tokenizer.vocab_size() if self.tokenizer else staging.max_id + 1


def _format_of(batch):
    """That of the first row which has one."""
    failure = None
    for where, raw in batch.items:
        try:
            return row_kinds.detect_format(row_kinds.RowReader.row_of(raw, where), where)
        except PrepareError as error:
            failure = failure or error
    raise failure
