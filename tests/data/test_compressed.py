"""Compressed text comes whole, wherever blocks of text, reads of the file and members end."""

import bz2
import gzip
import lzma
import random

import pytest

from ablate.data import compressed
from ablate.data.compressed import FORMATS, Decompressed, find_damage

PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
BLOCK, CHUNK = 64, 8  # bytes


@pytest.fixture
def small(monkeypatch):
    """Blocks and reads that are small enough to end everywhere."""
    monkeypatch.setattr(compressed, "BLOCK", BLOCK)
    monkeypatch.setattr(compressed, "CHUNK", CHUNK)


@pytest.mark.parametrize("ending", PACKERS)
def test_a_sound_file_is_whole_wherever_its_blocks_end(tmp_path, small, ending):
    """Also where a text ends exactly on a full block, and where a read ends within the checksum."""
    file, noise = tmp_path / f"a{ending}", random.Random(0).randbytes(3 * BLOCK)
    for size in (0, 1, *range(BLOCK - 2, BLOCK + 3), *range(2 * BLOCK - CHUNK, 2 * BLOCK + CHUNK), 3 * BLOCK):
        for text in (b"a" * size, noise[:size]):
            file.write_bytes(PACKERS[ending](text) + PACKERS[ending](text))
            with Decompressed(str(file)) as opened:
                assert opened.read() == text + text and opened.members == 2, (size, text[:1])
            assert find_damage(str(file)) is None


@pytest.mark.parametrize("ending", PACKERS)
def test_a_cut_file_is_truncated_wherever_it_is_cut(tmp_path, small, ending):
    file, whole = tmp_path / f"a{ending}", PACKERS[ending](b"a" * 2 * BLOCK)
    for size in range(1, len(whole)):
        file.write_bytes(whole[:size])
        damage = find_damage(str(file))
        assert damage is not None and damage.members == 0 and "truncated" in damage.kind, size


def test_gzip_asks_for_no_input_while_text_is_waiting():
    """What was taken in may hold more text than a block, though no input is left over."""
    packed = gzip.compress(b"a" * 1000)
    for size in range(1, len(packed)):
        member = FORMATS[".gz"][1]()
        member.decompress(packed[:size], 10)
        while not member.needs_input:
            member.decompress(b"", 10)
        assert member.decompress(b"", 10) == b"", size
