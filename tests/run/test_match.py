"""Whether a folder holds the run of a config, and the words that say in what it differs."""

import os
from dataclasses import replace

import pytest
import yaml

from ablate.config import compose, resolved
from ablate.config.identity import REASONS, SCHEMA, former_identity, identity
from ablate.errors import UserError
from ablate.run import match
from ablate.run.folder import RunFolder
from ablate.run.record import Data, Record

ONE, OTHER = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def cfg():
    return compose(["shape=nano"])


@pytest.fixture
def folder(tmp_path, cfg):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(resolved(cfg)))
    return RunFolder(tmp_path)


@pytest.fixture
def record(cfg):
    made = {"identity": identity(cfg, ONE), "identity_schema": SCHEMA, "data": Data(sha256=ONE)}
    return Record(schema=1, sweep="s", row="r", seed=0, status="done", **made)


def test_the_same_run(folder, record, cfg):
    assert match.changes(folder, record, cfg, ONE) == match.changes(folder, record, cfg) == ""
    assert match.changes(folder, None, cfg) == ""
    folder.config.unlink()
    assert match.changes(folder, None, cfg) == match.changes(folder, record, cfg) == ""


def test_settings_are_named_with_both_values(folder, record):
    changed = compose(["shape=nano", "dropout=0.1", "norm.eps=1e-5", "trainer.log_every=3"])
    expected = "dropout was 0.0, is 0.1; norm.eps was 1e-06, is 1e-05"
    assert match.changes(folder, record, changed) == expected
    assert match.changes(folder, None, changed) == expected  # one that never came to its identity
    many = match.changes(folder, record, compose(["shape=micro", "activation=swiglu", "norm=rmsnorm"]))
    assert many.count(" was ") == match.MOST and many.endswith("more settings")


def test_a_run_from_when_the_micro_batch_belonged_to_every_identity(folder, record, cfg):
    made = compose(["shape=nano", "trainer.micro_batch=4"])
    folder.config.write_text(yaml.safe_dump(resolved(made)))
    former = replace(record, identity=former_identity(made, ONE, 4))
    assert former.identity != record.identity
    assert match.changes(folder, former, made, ONE) == match.changes(folder, former, cfg, ONE) == ""
    assert "seed.base was 0, is 1" in match.changes(folder, former, compose(["shape=nano", "seed=1"]), ONE)
    mixed = compose(["shape=nano", "feedforward=switch", "trainer.micro_batch=4"])
    assert match.changes(folder, former, mixed, ONE)
    folder.config.unlink()  # as a committed record has none
    assert match.changes(folder, former, made, ONE) == ""


def test_other_data(folder, record, cfg):
    assert match.changes(folder, record, cfg, OTHER) == (
        "it was trained on different data (data.sha256 was aaaaaaaaaaaa, is bbbbbbbbbbbb)"
    )


@pytest.mark.parametrize(("schema", "age"), [(SCHEMA - 1, "an older"), (SCHEMA + 1, "a newer")])
def test_another_schema_of_the_config(folder, record, cfg, schema, age):
    record = replace(record, identity="0" * 16, identity_schema=schema)
    reason = f": since 3 {REASONS[3]}" if schema < SCHEMA else ""
    expected = f"made with {age} config schema (identity.SCHEMA {schema}, now {SCHEMA}{reason})"
    assert match.changes(folder, record, cfg, ONE) == expected


def test_what_nothing_explains_is_refused_all_the_same(folder, record, cfg):
    assert match.changes(folder, replace(record, identity="0" * 16), cfg, ONE) == "its identity differs"


def test_a_config_that_cannot_be_read_is_no_match(folder, record, cfg):
    folder.config.write_text("a: [1")
    assert "config.yaml cannot be read" in match.changes(folder, None, cfg)


@pytest.mark.timeout(20)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder):
    for path in (folder.config, folder.record, folder.path / "failed-0.txt", folder.path / "died.txt"):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    with pytest.raises(UserError, match="config.yaml cannot be read .it is no file."):
        folder.read_config()
    with pytest.raises(UserError, match="record.json cannot be read"):
        folder.read()
    assert folder.failure() == "process 0: "


def test_the_refusal():
    assert match.refusal("here", "it differs", "move it", 2) == (
        "here already contains 2 runs with a different configuration: it differs; move it"
    )
