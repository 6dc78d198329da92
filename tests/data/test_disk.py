"""A full disk, a folder that cannot be written, a corpus that others own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ablate.data import build_corpus, shards
from ablate.data.corpus_request import corpus_request
from ablate.errors import UserError
from tests.data.conftest import texts, write_jsonl

IS_ROOT = os.getuid() == 0
NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not IS_ROOT or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_is_named_and_nothing_is_left(config, small_disk, tmp_path):
    file = write_jsonl(tmp_path / "text.jsonl", texts(2000))
    cfg = config(file, f"paths.data={small_disk}")
    with pytest.raises(
        UserError, match=f"^{small_disk}: .* at {small_disk} has no room left .0 MB of 1 MB free.; nothing was"
    ):
        build_corpus.prepare(cfg)
    assert [name for name in os.listdir(small_disk) if not name.startswith(".")] == []
    assert not [name for name in os.listdir(small_disk) if build_corpus.PARTIAL in name]
    assert build_corpus.prepare(config(write_jsonl(file, texts(100)), f"paths.data={small_disk}")).train.n_tokens


LIMITED = """
import resource, signal, sys
from ablate.config import compose
from ablate.data import build_corpus
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
stage = sys.argv[1]
place = getattr(build_corpus, stage)
def limited(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    return place(*arguments)
setattr(build_corpus, stage, limited)
build_corpus.prepare(compose(sys.argv[2:]))
"""


@pytest.mark.parametrize("stage", ["_divide", "Encoder", "write_manifest"])
def test_a_limit_on_files_is_named_wherever_it_is_met(config, tmp_path, stage):
    file = write_jsonl(tmp_path / "text.jsonl", texts(200))
    overrides = ["data=local", f"data.files={file}", f"paths.data={tmp_path / 'corpora'}", "shape.vocab_size=768"]
    command = [sys.executable, "-c", LIMITED, stage, *overrides]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"UserError: {tmp_path / 'corpora'}: a file there would be larger" in ended.stderr, ended.stderr
    assert not corpus_request(config(file)).folder.exists()
    assert not [name for name in os.listdir(tmp_path / "corpora") if build_corpus.PARTIAL in name]


AS_NOBODY = f"""
import os, sys
import numpy as np
from ablate.config import compose
from ablate.data import build_corpus, file_hashes, shards
from ablate.errors import UserError

def read():
    corpus = build_corpus.prepare(compose(sys.argv[1:]))
    return corpus.train.windows(np.arange(3), 64).sum(), corpus.tokenizer.size, corpus.token_bytes.sum()

file_hashes.SETTLED = 1e9
sys.argv[1:], more = sys.argv[1:5], sys.argv[5:]
read()  # imports what another user cannot, where Python is root's
shards._verified.clear()
sys.argv += more
shards.LARGE, file_hashes.SETTLED = 1, 0
os.setgid({NOBODY}), os.setuid({NOBODY})
try:
    print(*read())
except UserError as error:
    print("refused:", error)
"""


@pytest.fixture
def open_folder():
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
def test_a_corpus_of_another_owner_is_read_where_nothing_may_be_written(config, open_folder):
    file = write_jsonl(open_folder / "text.jsonl", texts(200))
    root = open_folder / "corpora"
    overrides = ["data=local", f"data.files={file}", f"paths.data={root}", "shape.vocab_size=768"]
    made = build_corpus.prepare(config(file, f"paths.data={root}"))
    for path in [*root.rglob("*"), root]:
        os.chmod(path, 0o555 if path.is_dir() else 0o444)
    before = sorted(root.rglob("*"))

    def as_nobody(*more):
        ended = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *overrides, *more], capture_output=True, text=True, check=False
        )
        assert not ended.returncode, ended.stderr
        return ended.stdout.strip()

    sums = f"{made.train.windows(np.arange(3), 64).sum()} {made.tokenizer.size} {made.token_bytes.sum()}"
    assert as_nobody() == sums and as_nobody() == sums
    assert sorted(root.rglob("*")) == before
    # what is not there cannot be prepared there
    said = as_nobody("data.validation_share=0.3")
    assert said == f"refused: {root}: no permission to read or write there; nothing was prepared"
    os.chmod(file, 0)
    assert as_nobody() == f"refused: {file}: no permission to read or write there"


@pytest.mark.skipif(not IS_ROOT, reason="only root can mount")
def test_a_disk_mounted_read_only(config, small_disk, tmp_path):
    file = write_jsonl(tmp_path / "text.jsonl", texts(100))
    made = build_corpus.prepare(config(file, f"paths.data={small_disk}"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    shards._verified.clear()
    assert build_corpus.prepare(config(file, f"paths.data={small_disk}")).sha256 == made.sha256
    with pytest.raises(UserError, match=f"^{small_disk}: the file system at {small_disk} is mounted read-only"):
        build_corpus.prepare(config(file, f"paths.data={small_disk}", "data.validation_share=0.3"))
