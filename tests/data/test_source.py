"""Files of every kind, and every fault with its file and line."""

import gzip
import json

import datasets
import pytest

from ablate.data.data_faults import DataFaults
from ablate.data.source import Hub, Local
from ablate.errors import UserError
from tests.data.conftest import texts, write_jsonl


def read(files, policy="fail", **options):
    faults = DataFaults(policy, examples=None)
    return list(Local([str(file) for file in files], **options).documents(faults)), faults


def lines_of(documents):
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in documents)


def test_all_kinds_of_files_give_the_same_documents(tmp_path):
    documents = texts(30)
    table = datasets.Dataset.from_dict({"text": documents, "other": list(range(30))})
    table.to_parquet(str(tmp_path / "a.parquet"))
    table.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "a.jsonl").write_bytes(lines_of(documents))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines_of(documents)))
    (tmp_path / "a.txt").write_text("\n\n".join(documents) + "\n")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\n \n\n".join(documents).encode()))
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    for name in ("a.parquet", "a.jsonl", "a.jsonl.gz", "a.txt", "a.txt.gz", arrow):
        assert read([tmp_path / name])[0] == documents, name


def test_what_a_document_is_in_a_text_file(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one\ntwo\n\n\nthree\n")
    assert read([file])[0] == ["one\ntwo", "three"]
    assert read([file], split_txt="line")[0] == ["one", "two", "three"]
    assert read([file], split_txt="document")[0] == ["one\ntwo\n\n\nthree"]
    with pytest.raises(UserError, match="paragraph.*did you mean 'paragraph'"):
        read([file], split_txt="paragraphs")


def test_globs_folders_and_repeated_files(tmp_path):
    for name in ("b/1.jsonl", "b/deep/2.jsonl", "a.jsonl"):
        write_jsonl(tmp_path / name, [name])
    (tmp_path / "b/notes.md").write_text("no data")
    assert read([tmp_path / "*.jsonl", tmp_path / "b/**/*.jsonl"])[0] == ["a.jsonl", "b/1.jsonl", "b/deep/2.jsonl"]
    assert read([tmp_path / "b", tmp_path / "b/1.jsonl"])[0] == ["b/1.jsonl", "b/deep/2.jsonl"]


@pytest.mark.parametrize(
    "files, reason",
    [
        ([], "data.files is empty"),
        (["{}/text.json"], r"no file matches .*text.json; did you mean '.*text.jsonl'"),
        (["{}/none/*.jsonl"], "there is no folder .*none"),
        (["{}/picture.png"], "picture.png: must be one of .txt"),
        (["{}/empty"], "no .txt.* file in .*empty"),
    ],
)
def test_files_that_are_not_there(tmp_path, files, reason):
    write_jsonl(tmp_path / "text.jsonl", ["one"])
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=reason):
        Local([file.format(tmp_path) for file in files])


GOOD = b'{"text": "good"}\n'
FAULTS = {
    "truncated gzip": ("a.jsonl.gz", gzip.compress(lines_of(texts(200)))[:-3000], "truncated gzip", ""),
    "no gzip": ("a.jsonl.gz", GOOD, "damaged gzip", ":1"),
    "invalid UTF-8": ("a.jsonl", GOOD * 2 + b'{"text": "caf\xe9"}\n' + GOOD, "invalid UTF-8", ":3"),
    "invalid UTF-8 in gzip": ("a.jsonl.gz", gzip.compress(GOOD + b'{"text": "\xff"}\n'), "invalid UTF-8", ":2"),
    "broken JSON": ("a.jsonl", GOOD + b'{"text": "bad"\n' + GOOD, "broken JSON", ":2"),
    "deep JSON": ("a.jsonl", GOOD + b"[" * 200_000 + b"\n", "broken JSON", ":2"),
    "no object": ("a.jsonl", GOOD + b'["text"]\n', "not a JSON object", ":2"),
    "null": ("a.jsonl", GOOD * 3 + b'{"text": null}\n', "no text .*null", ":4"),
    "missing": ("a.jsonl", GOOD + b'{"txt": "x"}\n', "no text .*'txt'.*did you mean 'txt'", ":2"),
    "number": ("a.jsonl", GOOD + b'{"text": 3}\n', "no text .*int", ":2"),
    "empty document": ("a.jsonl", GOOD + b'{"text": " \\n"}\n', "empty document", ":2"),
    "half a surrogate": ("a.jsonl", GOOD + b'{"text": "\\ud800"}\n', "invalid Unicode", ":2"),
    "empty file": ("a.jsonl", b"", "empty file", ""),
    "empty gzip": ("a.txt.gz", gzip.compress(b""), "empty file", ""),
    "blank text": ("a.txt", b" \n\n", "empty file", ""),
    "invalid text": ("a.txt", b"one\n\ntwo\nbad \xe9\nthree\n\nfour\n", "invalid UTF-8", ":4"),
    "cut parquet": ("a.parquet", b"PAR1 and no more", "unreadable parquet", ""),
    "cut arrow": ("a.arrow", b"ARROW1 and no more", "unreadable arrow", ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_by_file_and_line(tmp_path, name):
    file, content, reason, place = FAULTS[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=f"{file}{place}.*: {reason}.*data.on_error=skip would leave it out") as error:
        read([tmp_path / file])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_counted_and_the_rest_is_read(tmp_path, name):
    file, content, _, place = FAULTS[name]
    (tmp_path / file).write_bytes(content)
    write_jsonl(tmp_path / "b.jsonl", ["another file"])
    documents, faults = read([tmp_path / file, tmp_path / "b.jsonl"], "skip")
    assert documents[-1] == "another file"
    assert faults.skipped.total() == 1 and len(faults.examples) == 1
    assert f"{file}{place}" in faults.examples[0]
    assert documents.count("good") == content.count(GOOD) or file.endswith(".gz")
    again, _ = read([tmp_path / file, tmp_path / "b.jsonl"], "skip")
    assert documents == again


def test_a_document_with_a_bad_line_is_left_out_entirely(tmp_path):
    (tmp_path / "a.txt").write_bytes(FAULTS["invalid text"][1])
    assert read([tmp_path / "a.txt"], "skip")[0] == ["one", "four"]
    assert read([tmp_path / "a.txt"], "skip", split_txt="line")[0] == ["one", "two", "three", "four"]
    assert read([tmp_path / "a.txt"], "skip", split_txt="document")[0] == []


def test_a_truncated_gzip_gives_the_lines_before_the_cut(tmp_path):
    documents = texts(200)
    (tmp_path / "a.jsonl.gz").write_bytes(FAULTS["truncated gzip"][1])
    found, faults = read([tmp_path / "a.jsonl.gz"], "skip")
    assert 50 < len(found) < 200 and found == documents[: len(found)]
    assert f":{len(found) + 1}" in faults.examples[0]


def test_a_bad_line_far_into_a_file_costs_no_other(tmp_path):
    lines = [json.dumps({"text": text}).encode() for text in texts(3000)]
    lines[2500] = b'{"text": "\xff"}'
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found, faults = read([tmp_path / "a.jsonl"], "skip")
    assert len(found) == 2999 and faults.examples == [f"{tmp_path / 'a.jsonl'}:2501: invalid UTF-8"]


def test_marks_windows_line_ends_and_blank_lines_are_repaired_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"text": "one"}\r\n\r\n{"text": "two"}\r\n')
    documents, faults = read([tmp_path / "a.jsonl"])
    assert documents == ["one", "two"] and not faults.skipped
    noted = {"Windows line ends (CRLF), read as LF": 1, "byte order mark, left out": 1, "blank line": 1}
    assert faults.as_dict()["noted"] == noted
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree")
    assert read([tmp_path / "a.txt"])[0] == ["one\ntwo", "three"]


def test_a_long_line_is_one_document(tmp_path):
    long = "word " * 1_000_000
    file = write_jsonl(tmp_path / "a.jsonl", ["before", long, "after"])
    assert read([file])[0] == ["before", long, "after"]


def test_tables_name_rows_and_columns(tmp_path):
    datasets.Dataset.from_dict({"body": ["one", None, " "]}).to_parquet(str(tmp_path / "a.parquet"))
    with pytest.raises(UserError, match="data.text=bodi: .* the columns body; did you mean 'body'"):
        read([tmp_path / "a.parquet"], text="bodi")
    with pytest.raises(UserError, match="a.parquet: row 2: no text"):
        read([tmp_path / "a.parquet"], text="body")
    documents, faults = read([tmp_path / "a.parquet"], "skip", text="body")
    assert documents == ["one"] and faults.skipped == {"no text": 1, "empty document": 1}


def test_a_policy_that_does_not_exist():
    with pytest.raises(UserError, match="data.on_error=skp: must be fail or skip; did you mean 'skip'"):
        DataFaults("skp")


def hub(folder, **changed):
    """The layout of C4: a folder of gzipped JSON lines, one file a shard."""
    usual = {"subset": None, "split": "train", "revision": None, "files": None, "text": "text", "limit": None}
    return Hub(**{"path": str(folder), **usual, **changed})


@pytest.fixture
def c4(tmp_path):
    folder = tmp_path / "en"
    folder.mkdir()
    for shard in range(3):
        part = texts(40, seed=shard)
        (folder / f"c4-train.0000{shard}-of-00003.json.gz").write_bytes(gzip.compress(lines_of(part)))
    return folder


def test_a_streamed_set_comes_shard_by_shard(c4):
    expected = [text for shard in range(3) for text in texts(40, seed=shard)]
    assert list(hub(c4).documents(DataFaults())) == expected
    assert list(hub(c4, limit=50).documents(DataFaults())) == expected[:50]
    mirror = hub(c4.parent, files="en/c4-train.*.json.gz")
    assert list(mirror.documents(DataFaults())) == expected
    some = hub("json", files=str(c4 / "*00001-of*"))
    assert list(some.documents(DataFaults())) == texts(40, seed=1)


def test_a_broken_shard_is_named_and_the_others_are_read(c4):
    broken = c4 / "c4-train.00001-of-00003.json.gz"
    broken.write_bytes(broken.read_bytes()[:-500])
    with pytest.raises(UserError, match="shard 2 of 3, after row 0: unreadable"):
        list(hub(c4).documents(DataFaults()))
    faults = DataFaults("skip")
    documents = list(hub(c4).documents(faults))
    assert documents == texts(40, seed=0) + texts(40, seed=2) and faults.skipped == {"unreadable": 1}


def test_files_on_this_machine_that_were_written_again_are_another_set(c4):
    file = c4 / "c4-train.00001-of-00003.json.gz"
    sets = ((c4, None), ("json", str(file)), ("json", [str(c4 / "*.gz")]))
    before = [hub(path, files=files).fingerprint() for path, files in sets]
    assert before == [hub(path, files=files).fingerprint() for path, files in sets]
    file.write_bytes(file.read_bytes() + gzip.compress(b""))
    after = [hub(path, files=files).fingerprint() for path, files in sets]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert "on_disk" not in hub("allenai/c4", subset="en", files="https://there/*.gz").fingerprint()


def test_a_set_that_cannot_be_loaded(c4, tmp_path):
    with pytest.raises(UserError, match="allenai/c4/en/train: cannot be loaded .*HF_HUB_OFFLINE is set"):
        list(hub("allenai/c4", subset="en").documents(DataFaults()))
    with pytest.raises(UserError, match="cannot be loaded"):
        list(hub(c4, split="trian").documents(DataFaults()))
    with pytest.raises(UserError, match="data.text=texts: .* has the columns text; did you mean 'text'"):
        list(hub(c4, text="texts").documents(DataFaults()))
