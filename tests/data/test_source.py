"""Files of every kind, and every fault with its file and line."""

import bz2
import gzip
import importlib
import json
import lzma
import os
import re
import tracemalloc

import datasets
import pyarrow
import pytest
from pyarrow import ipc, parquet

from ablate.config import compose
from ablate.data import compressed, readers
from ablate.data import documents as documents_module
from ablate.data.data_faults import DataFaults
from ablate.data.documents import KINDS, READABLE, kind_of
from ablate.data.source import Hub, Local
from ablate.errors import UserError
from tests.data.conftest import texts, write_jsonl


def read(files, policy="fail", **options):
    faults = DataFaults(policy, examples=None)
    return list(Local([str(file) for file in files], **options).documents(faults)), faults


def lines_of(documents):
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in documents)


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def damaged(content, how):
    """Compressed content with one bit flipped, in its checksum (which gives all of the text before), or cut off."""
    if how == "cut":
        return content[: len(content) // 2]
    place = -6 if how == "checksum" else len(content) // 2
    flipped = bytearray(content)
    flipped[place] ^= 1
    return bytes(flipped)


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


NAMES = (
    "data[1]",
    "q?",
    "s*",
    "a::b",
    "h#a",
    "p%20",
    "sp ace",
    "-l",
    "~t",
    "~",
    "ü",
    "line\nend",
    "{x}",
    "$HOME",
    "\udcff",
)
DECOYS = ("data1", "qq", "so", "b", "h", "p ", "sp", "l", "t")


def write_kinds(folder, name):
    """A file of each kind whose only document is its own name."""
    text = name.encode("utf-8", "backslashreplace").decode()
    line = json.dumps({"text": text}).encode()
    for ending, content in (
        (".txt", text.encode()),
        (".jsonl", line),
        (".ndjson", line),
        (".json", b"[" + line + b"]"),
    ):
        (folder / f"{name}{ending}").write_bytes(content)
        for packed, pack in PACKERS.items():
            (folder / f"{name}{ending}.{packed}").write_bytes(pack(content))
    table = pyarrow.table({"text": [text]})
    parquet.write_table(table, folder / "table")
    (folder / "table").rename(folder / f"{name}.parquet")
    for ending, new in ((".arrow", ipc.new_stream), (".ARROW", ipc.new_file)):
        with open(folder / f"{name}{ending}", "wb") as opened, new(opened, table.schema) as writer:
            writer.write_table(table)
    return text


def test_a_file_is_read_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in DECOYS:
        write_kinds(tmp_path, name)
    for name in NAMES:
        text = write_kinds(tmp_path, name)
        files = [file for file in tmp_path.iterdir() if file.name.startswith(f"{name}.")]
        assert len(files) == 4 * (1 + len(PACKERS)) + 3
        for file in files:
            assert read([file])[0] == [text], file
            assert read([file.name])[0] == [text], file.name


def test_what_is_no_name_of_a_file_is_a_glob(tmp_path):
    for name in ("data[1].txt", "data1.txt", "data2.txt"):
        (tmp_path / name).write_text(name)
    assert read([tmp_path / "data[1].txt"])[0] == ["data[1].txt"]
    assert read([tmp_path / "data[12].txt"])[0] == ["data1.txt", "data2.txt"]
    assert read([tmp_path / "data?.txt"])[0] == ["data1.txt", "data2.txt"]


@pytest.mark.parametrize(
    "address", ["http://a.b/c.jsonl", "hf://datasets/a/b.parquet", "s3://a/*.txt", "zip://a::b.zip"]
)
def test_an_address_is_no_file_of_this_machine(address):
    with pytest.raises(UserError, match="is an address.*data=hub"):
        Local([address])


def test_endings_are_matched_without_regard_to_case(tmp_path):
    (tmp_path / "A.TXT").write_text("one")
    (tmp_path / "B.JsonL.GZ").write_bytes(gzip.compress(GOOD))
    assert read([tmp_path])[0] == ["one", "good"]


def test_what_a_folder_has_besides_is_left_out_and_named(tmp_path):
    folder = tmp_path / "my"
    for name in (
        "a.txt", "b/c.JSONL", "notes.md", "b/more.MD", "x.csv", ".draft.txt", ".git/config.txt", "__MACOSX/._a.txt",
        "a.txt~", "#a.txt#", "README", "table.parquet.gz", "c.7z",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"text": "' + name + '"}' if name.endswith("JSONL") else name)
    (folder / "gone.txt").symlink_to("nowhere")
    (folder / "linked").symlink_to(folder / "b")
    os.mkfifo(folder / "pipe.txt")
    documents, faults = read([folder])
    assert documents == ["a.txt", "b/c.JSONL"] and not faults.skipped
    reasons = {"hidden": 2, "__MACOSX": 1, "backup": 2, "no ending": 1, "broken link": 1, "link to a folder": 1}
    reasons |= {".md": 2, ".csv": 1, ".gz": 1, ".7z": 1, "not a file": 1}
    assert faults.noted == {f"files not read ({reason})": count for reason, count in reasons.items()}
    assert f"{folder} (b/more.MD, notes.md): files not read (.md)" in faults.examples
    for name in (".draft.txt", "linked"):  # what is named is read
        assert len(read([folder / name])[0]) == 1
    with pytest.raises(UserError, match=r"no .txt, .* file in .*it has 1 hidden$"):
        Local([str(folder / "__MACOSX")])


def test_a_json_file_is_lines_or_one_array(tmp_path):
    rows = [{"text": "one"}, {"text": "two"}, {"text": 3}]
    file = tmp_path / "a.json"
    for text in (
        json.dumps(rows),
        json.dumps(rows, indent=1),
        "\ufeff\n\n" + json.dumps(rows),
        *["\n".join(map(json.dumps, rows))],
    ):
        file.write_text(text)
        documents, faults = read([file], "skip")
        assert documents == ["one", "two"] and faults.skipped == {"no text": 1}
    for text, reason in (
        (json.dumps({"text": "one"}, indent=1), "one JSON object over several lines .must be JSON lines, or one array"),
        ("[1]", "a.json: item 1: not a JSON object"),
        ("[", "a.json: broken JSON"),
        ("[" * 100_000, "a.json: broken JSON"),
        ('{"data": []}', "a.json:1: no text .no key 'text', only 'data'"),
        ("\n\n", "a.json: empty file"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=reason):
            read([file])


def test_zstandard_is_read_where_its_package_is_installed(tmp_path):
    file = tmp_path / "a.jsonl.zst"
    if importlib.util.find_spec("zstandard"):
        pack = importlib.import_module("zstandard").ZstdCompressor(write_checksum=True).compress
        file.write_bytes(pack(GOOD) + damaged(pack(lines_of(texts(50))), "bit"))
        documents, faults = read([file], "skip")
        assert documents == ["good"] and faults.skipped == {"damaged zstandard": 1}
        unchecked = importlib.import_module("zstandard").ZstdCompressor(write_checksum=False).compress
        for parts, notes in (((pack, pack), 0), ((unchecked, pack), 1), ((pack, unchecked), 1)):
            file.write_bytes(b"".join(part(GOOD) for part in parts))
            documents, faults = read([file])
            assert documents == ["good"] * 2 and faults.noted.total() == notes
    else:
        file.write_bytes(b"")
        with pytest.raises(UserError, match="a.jsonl.zst: .* not installed; pip install zstandard"):
            Local([str(file)])


def test_only_line_ends_end_a_line(tmp_path):
    odd = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    (tmp_path / "a.txt").write_text(f"one{odd}two\nthree", newline="")
    assert read([tmp_path / "a.txt"], split_txt="line")[0] == [f"one{odd}two", "three"]
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": odd + "x"}, ensure_ascii=False) + "\n" + GOOD.decode())
    assert read([tmp_path / "a.jsonl"])[0] == [odd + "x", "good"]


@pytest.mark.parametrize("ends, noted", [("\r\n", "CRLF"), ("\r", "old Macintosh line ends .CR.")])
def test_other_line_ends_are_noted_wherever_they_are(tmp_path, ends, noted):
    """The first is far behind what is read at once."""
    text = "line\n" * 500_000 + f"one{ends}two{ends}{ends}three"
    (tmp_path / "a.txt").write_text(text, newline="")
    documents, faults = read([tmp_path / "a.txt"], split_txt="line")
    assert documents[-3:] == ["one", "two", "three"] and len(faults.noted) == 1
    assert re.search(noted, next(iter(faults.noted)))
    assert read([tmp_path / "a.txt"])[0] == ["line\n" * 500_000 + "one\ntwo", "three"]


def test_a_line_end_that_is_cut_in_two_is_one(tmp_path):
    for size in range(8190, 8195):
        (tmp_path / "a.txt").write_text("x" * size + "\r\ny", newline="")
        assert read([tmp_path / "a.txt"])[0] == ["x" * size + "\ny"]


def test_nul_characters_are_noted(tmp_path):
    (tmp_path / "a.txt").write_text("one\0two")
    documents, faults = read([tmp_path / "a.txt"])
    assert documents == ["one\0two"] and faults.noted == {"NUL characters, kept": 1}


def test_a_line_without_end_is_refused_and_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LONGEST", 1 << 20)
    monkeypatch.setattr(documents_module, "LONGEST", 1 << 20)
    file = tmp_path / "a.jsonl"
    with open(file, "wb") as opened:
        opened.write(GOOD)
        for _ in range(64):
            opened.write(b"x" * (1 << 20))
        opened.write(b"\n" + GOOD)
    with pytest.raises(UserError, match="a.jsonl:2: line too long .more than 1,048,576 characters"):
        read([file])
    tracemalloc.start()
    documents, faults = read([file], "skip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert documents == ["good", "good"] and faults.skipped == {"line too long": 1} and peak < 16e6, peak
    (tmp_path / "a.txt").write_text("line\n" * 400_000 + "\nnext")
    assert read([tmp_path / "a.txt"], "skip")[0] == ["next"]
    with pytest.raises(UserError, match="a.txt:1: document too long"):
        read([tmp_path / "a.txt"], split_txt="document")


def test_globs_folders_and_repeated_files(tmp_path):
    for name in ("b/1.jsonl", "b/deep/2.jsonl", "a.jsonl"):
        write_jsonl(tmp_path / name, [name])
    (tmp_path / "b/notes.md").write_text("no data")
    assert read([tmp_path / "*.jsonl", tmp_path / "b/**/*.jsonl"])[0] == ["a.jsonl", "b/1.jsonl", "b/deep/2.jsonl"]
    assert read([tmp_path / "b", tmp_path / "b/1.jsonl"])[0] == ["b/1.jsonl", "b/deep/2.jsonl"]


@pytest.mark.parametrize("files", [7, [7], [None], [["a.txt"]], {"train": "a.txt"}, [""]])
def test_what_is_no_path_is_refused(files):
    """YAML reads 007 as a number and nothing as null; the keys of a mapping are no paths."""
    with pytest.raises(UserError, match="^data.files=.*: must be a path or a list of paths"):
        Local(files)
    if not isinstance(files, dict):  # by split, for the library
        with pytest.raises(UserError, match="^data.files=.*: must be a path or a list of paths"):
            hub("json", files={"train": files})


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


@pytest.mark.parametrize("how", ["bit", "checksum", "cut"])
@pytest.mark.parametrize("ending", PACKERS)
def test_nothing_of_a_damaged_member_is_read(tmp_path, ending, how):
    pack = PACKERS[ending]
    first, second, third = (lines_of(texts(200, seed=seed)) for seed in range(3))
    file = tmp_path / f"a.jsonl.{ending}"
    file.write_bytes(pack(first) + damaged(pack(second), how) + (b"" if how == "cut" else pack(third)))
    with pytest.raises(UserError, match=f"a.jsonl.{ending}:"):
        read([file])
    documents, faults = read([file], "skip")
    assert documents == texts(200)
    assert faults.skipped.total() == 1 and f"{file}:201: " in faults.examples[0]
    assert "its first 1 members are read" in faults.examples[0]
    file.write_bytes(damaged(pack(second), how))
    assert read([file], "skip")[0] == []


def test_members_and_padding_are_read_as_one_text(tmp_path):
    for ending, pack in PACKERS.items():
        file = tmp_path / f"a.txt.{ending}"
        file.write_bytes(pack(b"on") + pack(b"e\n\ntw") + b"\0" * 512 + pack(b"") + pack(b"o"))
        assert read([file])[0] == ["one", "two"]


def test_a_member_without_checksum_is_noted(tmp_path):
    without = {"xz": lambda content: lzma.compress(content, check=lzma.CHECK_NONE)}
    for ending, pack in (PACKERS | without).items():
        file = tmp_path / f"a.jsonl.{ending}"
        file.write_bytes(PACKERS[ending](GOOD) + pack(GOOD))
        documents, faults = read([file])
        said = {"compressed without a checksum, so that damage may go unnoticed": 1}
        assert documents == ["good"] * 2 and faults.noted == (said if ending in without else {}), ending
        assert read([file], "skip")[1].noted == faults.noted


def test_a_document_that_goes_on_in_a_damaged_member_is_left_out(tmp_path):
    bad = damaged(gzip.compress(b"er\n" * 100), "checksum")
    for start in (b"one\n\ntwo oth", b"one\n\ntwo\nthree\n"):
        (tmp_path / "a.txt.gz").write_bytes(gzip.compress(start) + bad)
        assert read([tmp_path / "a.txt.gz"], "skip")[0] == ["one"]
        assert "one" in read([tmp_path / "a.txt.gz"], "skip", split_txt="line")[0]
        assert "two oth" not in read([tmp_path / "a.txt.gz"], "skip", split_txt="line")[0]


def test_a_bomb_is_read_in_small_blocks(tmp_path):
    """A member that is a thousand times as large as its file, and one of bzip2 a million times."""
    peaks = {}
    for ending, pack in PACKERS.items():
        (tmp_path / f"a.txt.{ending}").write_bytes(pack(bytes(1 << 26)))
        tracemalloc.start()
        compressed.find_damage(str(tmp_path / f"a.txt.{ending}"))
        peaks[ending] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert max(peaks.values()) < 20e6, peaks


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
    with pytest.raises(UserError, match="data.on_error=skp: must be one of fail, skip; did you mean 'skip'"):
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


def test_files_of_a_set_are_read_whatever_their_names(c4, tmp_path):
    line = '{"text": "%s"}\n'
    for name in ("data[1].jsonl", "data1.jsonl", "a::b.jsonl", "s*.jsonl", "so.jsonl"):
        (tmp_path / name).write_text(line % name)
    for name in ("data[1].jsonl", "a::b.jsonl", "s*.jsonl"):
        one = hub("json", files=str(tmp_path / name))
        assert list(one.documents(DataFaults())) == [name]
        assert [entry[0] for entry in one.fingerprint()["on_disk"]] == [name]
    by_split = hub("json", files={"train": str(tmp_path / "s*.jsonl"), "test": [str(tmp_path / "so.jsonl")]})
    assert list(by_split.documents(DataFaults())) == ["s*.jsonl"] and len(by_split.fingerprint()["on_disk"]) == 2
    several = [str(tmp_path / name) for name in ("s*.jsonl", "data1.jsonl", "data[1].jsonl")]
    assert list(hub("json", files=several).documents(DataFaults())) == ["s*.jsonl", "data1.jsonl", "data[1].jsonl"]
    (c4 / "a::b.json").write_text(line)
    with pytest.raises(UserError, match="'a::b.json' has :: in its name"):
        list(hub(c4).documents(DataFaults()))
    with pytest.raises(UserError, match=r"en\[1\]: has \[ in its name"):
        list(hub(c4.rename(tmp_path / "en[1]")).documents(DataFaults()))


def test_nothing_of_a_damaged_shard_is_read(c4):
    """The damage is behind what the library reads at once."""
    broken = c4 / "c4-train.00001-of-00003.json.gz"
    broken.write_bytes(damaged(gzip.compress(lines_of(texts(30_000, words=48))), "checksum"))
    faults = DataFaults("skip")
    assert list(hub(c4).documents(faults)) == texts(40, seed=0) + texts(40, seed=2)
    assert faults.skipped == {"unreadable": 1}


@pytest.mark.parametrize("limit", [0, -1, 2.5, "7", True])
def test_a_limit_is_a_whole_number(limit):
    with pytest.raises(UserError, match=f"^data.limit={limit}: must be a whole number, 1 or more$"):
        hub("json", limit=limit)
    with pytest.raises(UserError, match="^data.(source.)?limit=[^\\n]*: must [^\\n]*$"):
        compose(["data=hub", "data.path=json", f"data.limit={json.dumps(limit)}"])


def test_a_whole_number_may_be_written_as_a_float(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", texts(5))
    floats = hub("json", files=str(file), limit=3.0)
    assert list(floats.documents(DataFaults())) == texts(3)
    assert repr(floats.fingerprint()) == repr(hub("json", files=str(file), limit=3).fingerprint())


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


def test_what_is_said_to_be_read_is_what_is_read(tmp_path):
    """Every ending that the messages name, in either case, and no other."""
    said, _, compressions = READABLE.partition(" (each also with ")
    packed, _, tables = compressions.partition("), ")
    plain = said.split(", ")
    assert [*plain, *tables.split(", ")] == list(KINDS)
    for ending in plain:
        for more in ("", *packed.split(", ")):
            assert kind_of(f"a.b{ending}{more}".upper()) == ending
    for ending in tables.split(", "):
        assert kind_of(f"a{ending}") == ending and not kind_of(f"a{ending}.gz")
    for name in ("a.gz", "a.txt.lz4", "a.csv", "txt", "a.json5", "a.txt.gz.bz2"):
        assert kind_of(name) == ""
