"""One data set: its rows, in batches, through workers into a token store, from where an earlier job
was stopped."""

import contextlib
import datetime
import itertools
import json
import os
import resource
import time

import jinja2
import tokenizers

from sutor_rows.reader import RowReader
from sutor_rows.row_forms import form_of

from sutor_prepare import inputs
from .batches import batches_of
from sutor_prepare.ends import trained_ends
from sutor_prepare.errors import PrepareError
from sutor_prepare.holdout import Side
from sutor_prepare.row_faults import RowFaults
from .progress import Progress
from .source import Source
from .staging import Staging
from .store import write_store
from .workers import Workers

# Keys of a job that change no token.
OF_NO_TOKEN = ("sources", "stores", "show", "ids", "colour", "workers", "report", "strict",
               "quiet")

# What is counted over the rows of every set, whatever they are.
NO_COUNTS = {"own_rows": 0, "empty": 0, "all_masked": 0, "longer_than_seq_len": 0,
             "special_in_text": 0, "with_own_ends": 0, "not_chosen": 0, "unread": {}}


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
        self.side = Side(spec)
        self.faults = RowFaults(spec["path"], job["strict"])
        self._workers = Workers(job["workers"])

    def run(self, look):
        """look(documents): called once with the first job["show"] of them, as soon as they are
        there; documents is a list of (ids, mask)."""
        begin = time.monotonic()
        os.makedirs(os.path.dirname(self._spec["out"]) or ".", exist_ok=True)
        self.reader = RowReader(self._spec["path"], self._spec.get("files"))
        batches = batches_of(self.reader.raw())
        first = next(batches, None)
        if first is None:
            raise PrepareError(334, f"{self._spec['path']} holds no rows")
        if self.guessed:
            self.format = self._form_of(first)
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

    def _form_of(self, first):
        """That of the first row which has one; first: the first batch."""
        for where, raw in first.items:
            try:
                return form_of(RowReader.row_of(raw, where), self._spec.get("columns"), where)
            except PrepareError:
                continue
        faults = RowFaults(self._spec["path"], self._job["strict"])
        reader = RowReader(self._spec["path"], self._spec.get("files"))
        for where, raw in reader.raw():
            try:
                return form_of(RowReader.row_of(raw, where), self._spec.get("columns"), where)
            except PrepareError as error:
                faults.add(error)
        faults.check(reader.rows)
        raise AssertionError("rows without a form are faults")

    def _load(self):
        """What workers share with this process."""
        self.tokenizer = None if self.format == "tokens" else self._tokenizer()
        self.template = None
        if self.format not in ("tokens", "text"):
            self.template = self._template_if_there()

    def _template_if_there(self):
        try:
            return self._template()
        except PrepareError:
            if self.format == "completion":  # whose rows are plain text, mostly
                return None
            raise

    def _fill(self, staging, batches, look):
        looked = not self._job["show"]
        batch = next(batches, None)
        while batch is not None and (faults := staging.resume(batch)) is not None:
            self._leave_out(faults)
            batch = next(batches, None)
        staging.start()
        self.resumed = staging.documents
        rest = itertools.chain([] if batch is None else [batch], batches)
        source = Source(self._job, self._spec, self.format, self._tokenizer, self._template)
        progress = Progress(f"prepare {self._spec['name']}", self._job.get("quiet", False))
        rows = 0
        try:
            with contextlib.closing(self._workers.map(source.encoded, rest)) as results:
                for done, encoded in results:
                    staging.add(done, encoded)
                    self._leave_out(encoded.faults)
                    rows += len(done.items)
                    progress.show(rows, self.reader.share())
                    if not looked and staging.documents >= self._job["show"]:
                        progress.clear()
                        look(staging.first(self._job["show"]))
                        looked = True
        finally:
            progress.clear()
        if not looked:
            look(staging.first(self._job["show"]))
        self.counts = {**NO_COUNTS, **staging.counts}
        self.documents, self.tokens = staging.documents, staging.tokens
        self.supervised = staging.supervised

    def _leave_out(self, faults):
        for error in faults:
            self.faults.add(error)

    @property
    def own_rows(self):
        """How many rows are on this side of a split."""
        return self.counts["own_rows"]

    def _check(self):
        """Whether what there is can be trained on."""
        self.faults.check(self.reader.rows)
        self.side.require_rows(self.own_rows, self.reader.rows)

    def ends_disagree(self):
        """A sentence when the model's files name other end tokens than the rows train."""
        trained = trained_ends(self.counts)
        if not trained:
            return None
        return self.tokenizer.ends.disagreement(trained, self.tokenizer.tokenizer.id_to_token)

    def row_notes(self):
        """Lines about rows that were left out and keys that nobody read."""
        notes = []
        if self.counts["not_chosen"]:
            notes.append(f"{self.counts['not_chosen']:,} rows left out: their `label` is false")
        unread = self.counts["unread"]
        if unread:
            names = ", ".join(f"{name} ({unread[name]:,})" for name in sorted(unread))
            notes.append(f"warning[W0111]: not read, as nothing here gives it a meaning: {names}")
        return notes + self.faults.lines(self.reader.rows, self.left_out_file)

    def _publish(self, staging):
        self._check()
        if staging.supervised == 0:
            raise PrepareError(
                334,
                f"{self._spec['path']}: no token of its {staging.documents} documents is in the "
                f"loss. Check data.loss_on ({self._job['loss_on']}), and roles, masks or labels "
                "of the rows",
            )
        # Only where some row was a conversation.
        template = self.template if "rows_as_turns" in staging.counts else None
        write_store(
            self._spec["out"],
            staging,
            {
                "producer": self._job["producer"],
                **self._digests(template),
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
                    "loss_on_thinking": self._job.get("loss_on_thinking", True),
                    "end_tokens": sorted(trained_ends(self.counts)),
                    "columns": columns_text(self._spec.get("columns")),
                    **self.side.options(),
                },
                "counts": self._stored_counts(),
                "inputs": self._inputs(template),
            },
        )
        self.left_out_file = self.faults.publish(self._spec["out"])

    def _stored_counts(self):
        counts = {name: count for name, count in self.counts.items() if _is_number(count)}
        return counts | self.faults.counts()

    def _digests(self, template):
        return {
            "tokenizer_digest": self.tokenizer.digest if self.tokenizer else "",
            "template_digest": template.digest() if template else "",
        }

    def _inputs(self, template):
        if self.tokenizer is None:
            return {}
        wanted = self._job["template"] if template else None
        return inputs.digests(self.tokenizer.folders[0], self._job["model"], wanted)

    def _basis(self):
        """All that decides the documents beside their rows: an unfinished store of another basis
        is of no use."""
        basis = {
            "job": {key: value for key, value in self._job.items() if key not in OF_NO_TOKEN},
            "set": {key: value for key, value in self._spec.items() if key != "out"},
            "format": self.format,
            **self._digests(self.template),
            "inputs": self._inputs(self.template),
            "program": inputs.program_digest(),
            "libraries": [tokenizers.__version__, jinja2.__version__],
        }
        if self.template and self.template.asks_for_date():
            date = os.environ.get("SOURCE_DATE_EPOCH") or datetime.date.today().isoformat()
            basis["date"] = date
        return basis

    def _vocab_size(self, staging):
        if self._job["model_vocab"] is not None:
            return self._job["model_vocab"]
        return self.tokenizer.vocab_size() if self.tokenizer else staging.max_id + 1


def _is_number(count):
    return not isinstance(count, dict)


def columns_text(columns):
    """As launch/steps/stage_checks.cc writes them for comparison."""
    if not columns:
        return ""
    return json.dumps(columns, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
