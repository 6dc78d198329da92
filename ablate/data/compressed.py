"""Compressed text, read member by member: whether a member is sound is known at its end, by its checksum."""

from __future__ import annotations

import bz2
import importlib.util
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ablate.errors import UserError

CHUNK = 1 << 16  # compressed bytes that are read at once
BLOCK = 1 << 20  # bytes of text that are made at once, however well they were compressed


class Damaged(Exception):
    """A compressed file cannot be read further; `kind` is such as "truncated gzip", the text says why."""

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind = kind


class _Gzip:
    """One gzip member, with the interface of `bz2.BZ2Decompressor`."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, limit: int) -> bytes:
        text = self._inner.decompress(self._inner.unconsumed_tail + data, limit)
        self.needs_input = len(text) < limit and not self._inner.unconsumed_tail
        return text


class _Zstandard:
    """One frame, with the interface of `lzma.LZMADecompressor`, except that it gives all that its input holds."""

    needs_input = True

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor().decompressobj()
        self._head = b""  # four bytes that are the same in each, then one of flags

    @property
    def check(self) -> int:
        """0 where the frame has no checksum."""
        return self._head[4] & 4 if len(self._head) > 4 else 1

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, limit: int) -> bytes:
        self._head = (self._head + data)[:5]
        return bytes(self._inner.decompress(data))


FORMATS: dict[str, tuple[str, Callable[[], Any]]] = {
    ".gz": ("gzip", _Gzip),
    ".bz2": ("bzip2", bz2.BZ2Decompressor),
    ".xz": ("xz", lzma.LZMADecompressor),
    ".zst": ("zstandard", _Zstandard),
}


def compression_of(file: str) -> str:
    """The ending that says how `file` is compressed; empty where it is not."""
    return next((ending for ending in FORMATS if file.lower().endswith(ending)), "")


def check_readable(file: str) -> None:
    """Raise UserError where the package that reads this compression is not installed."""
    if compression_of(file) == ".zst" and not importlib.util.find_spec("zstandard"):
        raise UserError(f"data.files: {file}: is read by a package that is not installed; pip install zstandard")


class Decompressed(io.RawIOBase):
    """The text of a compressed file, or of its first `end` members, as a binary file.

    members: whole members that were read so far; is_checked: whether each had a checksum, as all of gzip and bzip2.
    Raises `Damaged` where the file is damaged or cut off.
    """

    def __init__(self, file: str, end: int | None = None):
        self.members, self._end = 0, end
        self.is_checked = True
        self._file = open(file, "rb")  # noqa: SIM115 (closed by `close`)
        self._name, self._start = FORMATS[compression_of(file)]
        self._blocks = self._read()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()

    def _read(self) -> Iterator[bytes]:
        rest = b""
        while self.members != self._end and (rest := rest or self._file.read(CHUNK)):
            if self.members:
                rest = rest.lstrip(b"\0")  # padding between members
            if not rest:
                continue
            member = self._start()
            while not member.eof:
                yield self._decompress(member, rest)
                rest = b""
                if member.needs_input and not member.eof and not (rest := self._file.read(CHUNK)):
                    raise Damaged(f"truncated {self._name}", "the rest of the file is missing")
            rest = member.unused_data
            self.members += 1
            self.is_checked &= bool(getattr(member, "check", True))

    def _decompress(self, member: Any, data: bytes) -> bytes:
        try:
            text: bytes = member.decompress(data, BLOCK)
            return text
        except Exception as error:  # each library has its own type
            raise Damaged(f"damaged {self._name}", str(error)) from None


@dataclass(frozen=True)
class Damage:
    """How a compressed file is damaged, behind so many whole members."""

    kind: str
    reason: str
    members: int


def find_damage(file: str) -> Damage | None:
    """Read a compressed file to its end, or to where it is damaged."""
    with Decompressed(file) as opened:
        try:
            while opened.read(BLOCK):
                pass
        except Damaged as error:
            return Damage(error.kind, str(error), opened.members)
    return None
