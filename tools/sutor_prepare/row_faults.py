"""Rows that cannot be used: counted by kind, named, and left out, unless they are the half."""

import json
import os
import re
import tempfile

from .errors import PrepareError
from .lines import temporary_name

# What a row may have wrong. Everything else ends the job: files, tokenizer, template, limits.
OF_ROWS = (330, 336, 337, 339, 370)
SHOWN = 20  # rows of a kind that are named; all are in the file beside the store
VARIABLE = re.compile(r"\[\d+\]|`[^`]*`|'[^']*'|\"[^\"]*\"|0x[0-9a-f]{2}|\d[\d,.]*")


class RowFaults:
    def __init__(self, path, strict):
        """path: of the rows, for messages. strict: the first one ends the job."""
        self._path = path
        self._strict = strict
        self._list = tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")
        self._kinds = {}  # kind -> [how many, reports of the first]
        self._first = None
        self.count = 0

    def add(self, error):
        """Raises the error when the job must end with it."""
        if self._strict or error.code not in OF_ROWS or not error.where:
            raise error
        self.count += 1
        self._first = self._first or error
        line = {"where": error.where, "code": f"E{error.code:04}", "message": str(error)}
        self._list.write(json.dumps(line) + "\n")
        kind = self._kinds.setdefault(kind_of_error(error), [0, []])
        kind[0] += 1
        if len(kind[1]) < SHOWN:
            kind[1].append(error.report())

    def check(self, rows):
        """Raises when half of so many rows or more cannot be used: they were misread, or are the
        wrong ones, and what is left would be a training on other data than was meant."""
        if not self.count or 2 * self.count < rows:
            return
        if self.count == 1:
            raise self._first
        print("\n".join(self.lines(rows)))
        raise PrepareError(
            self._first.code,
            f"{self._first} ({self.count:,} of {rows:,} rows cannot be used: too many to go on. "
            "Mend them, or say how they are to be read with `format` and `columns` of the data "
            "set)",
            self._first.where,
        )

    def counts(self):
        """For the token store."""
        if not self.count:
            return {}
        return {"left_out": self.count, "left_out_by_kind": {
            kind: count for kind, (count, _) in sorted(self._kinds.items())}}

    def publish(self, store):
        """Writes all of them beside a store, or takes the list of an earlier store away. Returns
        the file's name, or None."""
        path = faults_path(store)
        if not self.count:
            if os.path.lexists(path):
                os.remove(path)
            return None
        temporary = temporary_name(path)
        try:
            with open(temporary, "w", encoding="utf-8") as stream:
                self._list.seek(0)
                for line in self._list:
                    stream.write(line)
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)
        return path

    def lines(self, rows, listed_in=None):
        """The summary by kind, and the first rows of each."""
        if not self.count:
            return []
        lines = [f"warning[W0110]: {self.count:,} of {rows:,} rows cannot be used and are left out"
                 + (f"; all are named in {listed_in}" if listed_in else "")]
        by_count = sorted(self._kinds.items(), key=lambda item: (-item[1][0], item[0]))
        for kind, (count, reports) in by_count:
            lines.append(f"  {count:,} x {kind}")
            lines += [f"    {report}" for report in reports]
            if count > len(reports):
                lines.append(f"    and {count - len(reports):,} more")
        return lines


def faults_path(store):
    """rows.tokens.h5 -> rows.left_out.jsonl"""
    return store.removesuffix(".h5").removesuffix(".tokens") + ".left_out.jsonl"


def kind_of_error(error):
    """Its code and message without what is one row's own."""
    message = VARIABLE.sub(lambda found: _name_of(found.group()), str(error).partition(". ")[0])
    return f"E{error.code:04} {message[:120]}"


def _name_of(found):
    """Names of keys tell kinds apart, once the numbers of messages are taken out."""
    if found.startswith("`"):
        return re.sub(r"\[\d+\]", "[]", found)[:60]
    return {"[": "[]", "'": "'..'", '"': '".."'}.get(found[0], "N")
