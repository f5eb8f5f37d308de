"""Tables -> (where, row): CSV, and Parquet (also the files of Hugging Face's datasets)."""

import csv
import tempfile

from sutor_prepare.errors import PrepareError
from sutor_prepare.files import MAX_TEXT

BATCH = 256  # rows of a Parquet file that are in memory at once
SEPARATORS = (",", "\t", ";")


def csv_rows(path, blocks):
    """The first line names the columns. Cells are text; a row has as many as there are columns."""
    csv.field_size_limit(MAX_TEXT)
    lines = _text_lines(blocks)
    head = next(lines, None)
    if head is None:
        return
    separator = max(SEPARATORS, key=head.count) if not head.startswith('"') else ","
    reader = csv.reader(_again(head, lines), delimiter=separator, strict=True)
    names, number = None, 0
    while True:
        where = f"{path}: row {number + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise PrepareError(
                336, f"not CSV: {error}. Nothing behind it can be read", where
            ) from error
        if cells is None:
            return
        if not cells:
            continue  # a blank line
        if names is None:
            names = _checked_names(cells, path)
            continue
        number += 1
        yield where, _csv_row(names, cells, where)


def _checked_names(cells, path):
    if len(set(cells)) < len(cells) or not all(cell.strip() for cell in cells):
        raise PrepareError(336, "the first line must name every column once", f"{path}:1")
    return [cell.strip() for cell in cells]


def _csv_row(names, cells, where):
    if len(cells) != len(names):
        return PrepareError(336, f"expected {len(names)} cells, got {len(cells)}", where)
    for name, cell in zip(names, cells):
        if not cell.isascii() and any("\udc80" <= c <= "\udcff" for c in cell):
            return PrepareError(337, f"`{name}` is not UTF-8", where)
    return dict(zip(names, cells))


def _text_lines(blocks):
    """Lines with their ends. A byte that is no UTF-8 becomes half a surrogate pair."""
    rest, first = b"", True
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            line = line.removeprefix(b"\xef\xbb\xbf") if first else line
            first = False
            yield line.decode("utf-8", "surrogateescape") + "\n"
        if len(rest) > MAX_TEXT:
            raise PrepareError(336, f"a line of the table has more than {MAX_TEXT:,} bytes")
    if rest:
        rest = rest.removeprefix(b"\xef\xbb\xbf") if first else rest
        yield rest.decode("utf-8", "surrogateescape")


def _again(first, others):
    yield first
    yield from others


def parquet_rows(path, blocks):
    """A null in a struct is a key that this row lacks: Arrow gives all structs of a column the same
    keys. Columns of JSON text stay text; whoever reads them decodes them."""
    import pyarrow
    import pyarrow.parquet

    # It is read in any order: unpacked, and in a place that nobody else can change meanwhile.
    with tempfile.TemporaryFile() as whole:
        for block in blocks:
            whole.write(block)
        whole.seek(0)
        try:
            table = pyarrow.parquet.ParquetFile(whole, pre_buffer=False)
            number = 0
            for batch in table.iter_batches(batch_size=BATCH, use_threads=False):
                for at in range(batch.num_rows):
                    number += 1
                    where = f"{path}: row {number}"
                    yield where, _parquet_row(batch.slice(at, 1), where)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            text = " ".join(str(error).split())
            raise PrepareError(331, f"{path} cannot be read as Parquet: {text}") from error


def _parquet_row(one, where):
    try:
        [row] = one.to_pylist(maps_as_pydicts="lossy")
        return _without_nulls(row)
    except UnicodeDecodeError as error:
        return PrepareError(337, f"not UTF-8: {error.reason}", where)
    except RecursionError:
        return PrepareError(336, "the row is nested too deeply", where)


def _without_nulls(value):
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value
