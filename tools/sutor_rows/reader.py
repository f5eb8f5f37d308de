"""Iterates over the rows of a data set: of one file, or of all that a glob or a folder names.

The files come from the program, which also compares the digest: launch/data/rows/row_files.cc.
"""

import hashlib
import os
import re

from sutor_prepare.errors import PrepareError

from .json_lines import json_lines, parse_row
from .json_values import json_values
from .raw_bytes import RawBytes
from .tables import csv_rows, parquet_rows

PACKED = re.compile(r"\.(gz|zst|zstd|gzip)$", re.IGNORECASE)
BOM = b"\xef\xbb\xbf"


class RowReader:
    """Iterates over (where, row). Knows digest and size of the files when they have been read."""

    def __init__(self, path, files=None):
        """files: in their order; None: the path is a file's."""
        self.path = path
        self.files = files if files is not None else [path]
        self.rows = 0  # damaged ones too
        self.bytes = 0
        self._all = None  # bytes of all files
        self._digests = []
        self._stream = None  # of the file that is being read

    def digest(self):
        """Of a file: its sha256. Of several: that of lines of `sha256  name`."""
        if self.files == [self.path]:
            return "sha256:" + self._digests[0]
        lines = "".join(
            f"{digest}  {self._name(file)}\n" for digest, file in zip(self._digests, self.files)
        )
        return "sha256:" + hashlib.sha256(os.fsencode(lines)).hexdigest()

    def share(self):
        """How much of the files' bytes is read; None where nobody knows: all of a Parquet file is
        read before its first row."""
        if self._stream is not None and self._stream.is_parquet:
            return None
        read = self.bytes + (self._stream.size if self._stream is not None else 0)
        if self._all is None:
            self._all = sum(os.path.getsize(file) for file in self.files)
        return min(read / self._all, 1.0) if self._all else None

    def _name(self, file):
        if os.path.isdir(self.path):
            return os.path.relpath(file, self.path)
        return os.path.basename(file)

    def __iter__(self):
        """Stops with the error of the first row that is damaged."""
        for where, raw in self.raw():
            yield where, self.row_of(raw, where)

    @staticmethod
    def row_of(raw, where):
        """The row of what raw() yields; raises the error of a damaged one."""
        if isinstance(raw, PrepareError):
            raise raw
        return parse_row(raw, where) if isinstance(raw, bytes) else raw

    def raw(self):
        """(where, bytes of a JSON object, or a row, or the PrepareError of one that is damaged)."""
        for file in self.files:
            self._stream = stream = RawBytes(file)
            for where, row in _rows_of(file, stream):
                self.rows += 1
                yield where, row
            stream.finish()
            self._stream = None
            self.bytes += stream.size
            self._digests.append(stream.digest())


def _rows_of(file, stream):
    name = PACKED.sub("", file).lower()
    if stream.begins_as_parquet() or name.endswith((".parquet", ".pq")):
        return parquet_rows(file, stream.blocks())
    blocks = stream.blocks()
    if name.endswith((".csv", ".tsv")):
        return csv_rows(file, blocks)
    first, blocks = _peeked(blocks)
    if name.endswith(".json") and not _begins_with_a_line(first):
        return json_values(file, blocks)
    return json_lines(file, blocks)


def _peeked(blocks):
    """The first block without a byte order mark, and all blocks."""
    first = next(blocks, b"").removeprefix(BOM)

    def again():
        yield first
        yield from blocks

    return first, again()


def _begins_with_a_line(block):
    """Whether a file called .json is JSON lines, as many are: its first line is an object, and more
    than blanks follow. A damaged first line that others follow is one, too."""
    line, end, rest = block.lstrip().partition(b"\n")
    return bool(end) and line.startswith(b"{") and rest.lstrip().startswith(b"{")
