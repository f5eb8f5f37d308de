"""The bytes of a file of rows: unpacked when they are gzip's or zstd's, hashed as they stand there.

What the bytes begin with decides, not the name. Unpacking takes bounded memory, whatever the size.
"""

import gzip
import hashlib
import zlib

from sutor_prepare.errors import PrepareError
from sutor_prepare.files import open_input

GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
BLOCK = 1 << 20  # bytes that are read at once
# Of zstd at once: a block of 128 KiB may come of four bytes.
ZSTD_PIECE = 1 << 10


class _Hashed:
    """A file that is read once, from its beginning."""

    def __init__(self, path):
        self._path = path
        self._stream = open_input(path, 331)
        self._hash = hashlib.sha256()
        self._ahead = b""  # read, but not taken
        self.size = 0

    def peek(self, count):
        while len(self._ahead) < count:
            more = self._take(BLOCK)
            if not more:
                break
            self._ahead += more
        return self._ahead[:count]

    def read(self, count=-1):
        if self._ahead:
            count = len(self._ahead) if count < 0 else count
            taken, self._ahead = self._ahead[:count], self._ahead[count:]
            return taken
        return self._take(BLOCK if count < 0 else count)

    def drain(self):
        self._ahead = b""
        while self._take(BLOCK):
            pass

    def digest(self):
        return self._hash.hexdigest()

    def close(self):
        self._stream.close()

    def _take(self, count):
        try:
            block = self._stream.read(count)
        except OSError as error:
            raise PrepareError(331, f"{self._path} cannot be read: {error.strerror}") from error
        self._hash.update(block)
        self.size += len(block)
        return block


class RawBytes:
    """A file of rows; when it was read, its size and sha256 as it stands there."""

    def __init__(self, path):
        self.path = path
        self._file = _Hashed(path)
        start = self._file.peek(4)
        self.packed = start.startswith(GZIP) or start == ZSTD
        self.is_parquet = start == PARQUET
        if start.startswith(GZIP):
            self._blocks = self._gzip_blocks()
        elif start == ZSTD:
            self._blocks = self._zstd_blocks()
        else:
            self._blocks = iter(lambda: self._file.read(BLOCK), b"")
        self._first = None

    def blocks(self):
        """Unpacked, in order; once."""
        if self._first:
            yield self._first
        while block := self._next_block():
            yield block

    def begins_as_parquet(self):
        """Unpacked."""
        if self.packed and self._first is None:
            self._first = self._next_block()
            self.is_parquet = self._first.startswith(PARQUET)
        return self.is_parquet

    def _next_block(self):
        try:
            return next(self._blocks, b"")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise PrepareError(
                331, f"{self.path}: its compressed bytes are damaged or end early: {error}"
            ) from error

    def finish(self):
        """Reads what nobody took, so that digest and size are those of the file. Closes it."""
        self._file.drain()
        self._file.close()

    def digest(self):
        return self._file.digest()

    @property
    def size(self):
        return self._file.size

    def _gzip_blocks(self):
        with gzip.GzipFile(fileobj=self._file) as stream:
            yield from iter(lambda: stream.read(BLOCK), b"")

    def _zstd_blocks(self):
        import zstandard

        piece = self._file.read(ZSTD_PIECE)
        while piece:  # one frame after the other
            frame = zstandard.ZstdDecompressor().decompressobj()
            while not frame.eof:
                if not piece:
                    raise EOFError("the last frame is not whole")
                try:
                    block = frame.decompress(piece)
                except zstandard.ZstdError as error:
                    raise EOFError(str(error)) from error
                if block:
                    yield block
                piece = b"" if frame.eof else self._file.read(ZSTD_PIECE)
            piece = frame.unused_data or self._file.read(ZSTD_PIECE)
