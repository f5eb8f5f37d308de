"""What rows are, by the reader, the template and the tokenizer of `prepare`: all rows are counted,
and as many tokenised as a few seconds allow, over the whole of the files."""

import time

from sutor_prepare.errors import PrepareError
from sutor_prepare.holdout import HELD_OUT, Side
from sutor_prepare.row_faults import OF_ROWS, RowFaults
from sutor_rows.reader import RowReader
from sutor_rows.row_forms import form_of
from sutor_store.batches import batches_of
from sutor_store.source import Source


class Facts:
    """Of one set. job: the keys of a recipe; spec: {path, files, format, columns}; shares: of rows
    to be held out, to be counted."""

    def __init__(self, job, spec, tokenizer, template):
        self._job, self._spec = job, {**spec, "columns": spec.get("columns") or {}}
        self._tokenizer, self._template = tokenizer, template
        self._faults = RowFaults(spec["path"], False)
        self._sides = [Side({**spec, "share": share, "side": HELD_OUT}) for share in job["shares"]]
        self._held_out = [0] * len(self._sides)
        self._lengths, self._supervised = [], 0
        self._rows, self._documents, self._tokens = 0, 0, 0

    def read(self):
        """A dict for the program."""
        reader = RowReader(self._spec["path"], self._spec.get("files"))
        source, number = None, 0
        begin = time.monotonic()
        for batch in batches_of(reader.raw()):
            number += 1
            if source is None:
                source = self._source(batch)
            late = time.monotonic() - begin > self._job["seconds"]
            if source and (not late or number & (number - 1) == 0):
                self._look_at(source, batch)
        if reader.rows == 0:
            raise PrepareError(334, f"{self._spec['path']} holds no rows")
        self._faults.check(self._rows)
        if self._supervised == 0:
            raise PrepareError(
                334,
                f"{self._spec['path']}: no token of the {self._documents:,} documents that were "
                f"looked at is in the loss. Check data.loss_on ({self._job['loss_on']}), and "
                "roles, masks or labels of the rows",
            )
        self._lengths.sort()
        times = reader.rows / self._rows
        return {
            "path": self._spec["path"], "form": self.form, "rows": reader.rows,
            "looked_at": self._rows, "left_out": self._faults.count,
            "documents": round(self._documents * times), "tokens": round(self._tokens * times),
            "supervised": round(self._supervised * times),
            "held_out": [round(count * times) for count in self._held_out],
            "lengths": {str(percent): self._length(percent) for percent in (50, 90, 99, 100)},
        }

    def _source(self, batch):
        """None while no row of a batch has a form."""
        self.form = self._spec.get("format", "auto")
        if self.form == "auto":
            self.form = self._form_of(batch)
        if self.form is None:
            return None
        return Source(self._job, self._spec, self.form, self._tokenizer,
                      self._template_of(self.form))

    def _form_of(self, batch):
        """Of the first row that has one; None, and the faults kept, where none has."""
        faults = []
        for where, raw in batch.items:
            try:
                return form_of(RowReader.row_of(raw, where), self._spec["columns"], where)
            except PrepareError as error:
                faults.append(error)
        for error in faults:
            self._faults.add(error)
        self._rows += len(batch.items)
        return None

    def _template_of(self, form):
        def optional():
            try:
                return self._template()
            except PrepareError:
                return None

        return optional if form == "completion" else self._template

    def _look_at(self, source, batch):
        self._rows += len(batch.items)
        encoded = source.encoded(batch)
        for error in encoded.faults:
            self._faults.add(error)
        self._documents += len(encoded.lengths)
        self._tokens += int(encoded.lengths.sum())
        self._supervised += int(encoded.mask.sum())
        self._lengths += encoded.lengths.tolist()
        for raw in batch.items:
            self._count_held_out(*raw)

    def _count_held_out(self, where, raw):
        try:
            row = RowReader.row_of(raw, where)
        except PrepareError as error:
            assert error.code in OF_ROWS
            return
        for i, side in enumerate(self._sides):
            self._held_out[i] += side.has(row)

    def _length(self, percent):
        """The length that so many percent of the documents do not go beyond."""
        return self._lengths[min(len(self._lengths) * percent // 100, len(self._lengths) - 1)]
