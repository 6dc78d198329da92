"""The text of a step: a pure function of (seed, step), the same for any number of processes and for every variant."""

import logging

import numpy as np
import pytest
import torch

from ablate.config import compose, merge
from ablate.data import batches as module
from ablate.data import build_corpus
from ablate.data.batches import Batches
from ablate.errors import UserError
from tests.data.conftest import texts, write_jsonl

VARIANTS = {
    "span corruption": [],
    "span corruption, documents": ["data.document_mask=true"],
    "causal": ["topology=causal_decoder"],
    "causal, documents": ["topology=causal_decoder", "data.document_mask=true"],
    "prefix": ["topology=prefix_decoder"],
    "prefix, documents": ["topology=prefix_decoder", "data.document_mask=true"],
    "prefix, two stacks": ["objective=prefix"],
    "masked": ["topology=encoder"],
    "masked, documents": ["topology=encoder", "data.document_mask=true"],
}


@pytest.fixture
def batches(shared):
    """`batches(*overrides)`: the batches of a tiny run over the shared corpus."""
    made, overrides = shared

    def make(*more):
        return Batches(compose(merge(overrides, ["shape.batch_tokens=512", "shape.length=32", *more])), made)

    return make


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_batch_follows_from_seed_and_step(batches, name):
    there = batches(*VARIANTS[name])
    in_order = [there.train(step) for step in range(200)]
    fresh = batches(*VARIANTS[name])
    for step in (150, 0, 127, 128, 129, 3, 199):  # a chunk has 128 steps here
        assert equal(fresh.train(step), in_order[step])
    assert not equal(in_order[0], in_order[1])
    assert not equal(batches("seed=1", *VARIANTS[name]).train(0), in_order[0])


@pytest.mark.parametrize("name", VARIANTS)
def test_slices_together_are_the_batch(batches, name):
    there = batches(*VARIANTS[name])
    whole = there.train(5)
    for count in (1, 2, 4, 16):
        parts = [there.micro(5, index, count) for index in range(count)]
        assert all(torch.equal(torch.cat([part[key] for part in parts]), whole[key]) for key in whole)
    with pytest.raises(UserError, match="16 sequences cannot be split into 3"):
        there.micro(5, 0, 3)


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_have_the_mean_one(batches, name):
    batch = batches(*VARIANTS[name]).train(0)
    rows = {tensor.shape[0] for tensor in batch.values()}
    assert rows == {16} and all(tensor.dtype in (torch.int64, torch.float32) for tensor in batch.values())
    if "weights" in batch:
        assert batch["weights"].shape == batch["targets"].shape
        assert batch["weights"].mean().item() == pytest.approx(1, abs=1e-6)
        assert len(batch["weights"].unique()) == 2
    else:
        assert name.startswith(("span", "causal"))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_model_takes_it(batches, shared, name):
    from ablate.config import build_model

    small = ["shape.d_model=16", "shape.n_layers=1", "shape.n_heads=2", "shape.head_dim=8", "shape.d_ff=32"]
    cfg = compose(merge(shared[1], ["shape.batch_tokens=512", "shape.length=32", *small, *VARIANTS[name]]))
    batch = Batches(cfg, shared[0]).micro(0, 0, 4)
    loss, nll = build_model(cfg)(batch)
    assert torch.isfinite(loss) and torch.isfinite(nll).all() and nll.shape == batch["targets"].shape
    loss.backward()


def test_an_epoch_reads_every_window_once_and_the_next_in_another_order(batches, shared):
    there = batches("topology=causal_decoder")
    n, rows = there.n_windows, there.sequences
    steps = -(-2 * n // rows)
    seen = torch.cat([there.train(step)["targets"] for step in range(steps)])[: 2 * n].numpy()
    whole = shared[0].train.windows(np.arange(n), 32)
    first, second = (sorted(map(tuple, part.tolist())) for part in (seen[:n], seen[n:]))
    assert first == second == sorted(map(tuple, whole.tolist()))
    assert (seen[:n] != seen[n:]).any() and (seen[:n] != whole).any()


def test_variants_see_the_same_text(batches):
    """Shape and objective kept, nothing else matters: rows of a sweep are paired."""
    one = batches("norm=rmsnorm", "position=rope", "optimizer=adamw", "seed.init=4", "trainer.micro_batch=4")
    assert equal(one.train(3), batches().train(3))


def test_evaluation_is_the_same_for_every_run(batches, shared):
    one, other = batches("seed=0"), batches("seed=5")
    for a, b in zip(one.evaluation(2048, 1), other.evaluation(2048, 1), strict=True):
        assert equal(a, b)
    assert len(one.evaluation(2048, 1)) == 4 and len(one.evaluation(1, 1)) == 1
    assert not equal(one.evaluation(512, 1)[0], one.evaluation(512, 3)[0])
    causal = batches("topology=causal_decoder")
    n = shared[0].validation.n_windows(32)
    whole = {tuple(window): place for place, window in enumerate(shared[0].validation.windows(np.arange(n), 32))}
    drawn = [whole[tuple(window)] for window in causal.evaluation(512, 1)[0]["targets"].numpy()]
    assert len(set(drawn)) == 16 and max(drawn) > n * 2 / 3 and min(drawn) < n / 3


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_evaluation_draws_from_both_sources_of_a_sorted_mixture(config, tmp_path, share):
    """Two sources one after the other: their shares of the evaluated tokens are those of the held-out text."""
    words = ("alpha", "omega")
    first = write_jsonl(tmp_path / "a.jsonl", [f"{words[0]} {text}" for text in texts(int(1000 * share), seed=1)])
    second = [f"{words[1]} {text.upper()}" for text in texts(1000 - int(1000 * share), seed=2)]
    cfg = config(
        [first, write_jsonl(tmp_path / "b.jsonl", second)],
        *("topology=causal_decoder", "shape.length=32", "shape.batch_tokens=512", "data.validation_share=0.3"),
    )
    made = build_corpus.prepare(cfg)
    n = made.validation.n_windows(32)
    capitals = np.array([len(piece) > 3 and piece.isupper() for piece in _pieces(made)])

    def share_of_second(windows):
        return (capitals[windows].mean(axis=1) > 0.2).mean()

    expected = share_of_second(made.validation.windows(np.arange(n), 32))
    drawn = torch.cat([batch["targets"] for batch in Batches(cfg, made).evaluation(32 * 300, 7)]).numpy()
    assert len(drawn) == 300 < n / 4 and 0.05 < expected < 0.6
    assert abs(share_of_second(drawn) - expected) < 3 * (expected * (1 - expected) / 300) ** 0.5


def _pieces(made):
    """The text of each id."""
    return [made.tokenizer.decode([index]).strip() for index in range(made.vocab_size)]


def test_shares_of_two_processes_are_the_whole(batches):
    """Each process takes every second slice of the same list."""
    whole = batches().evaluation(2048, 1)
    parts = [batches().evaluation(2048, 1)[rank::2] for rank in range(2)]
    again = [batch for pair in zip(*parts, strict=True) for batch in pair]
    assert all(equal(one, other) for one, other in zip(whole, again, strict=True))


def test_evaluation_does_not_depend_on_the_batch(batches):
    """A row with larger batches is scored on the same targets."""

    def whole(*more):
        found = [batch.values() for batch in batches(*more).evaluation(2048, 1)]
        return [torch.cat(part) for part in zip(*found, strict=True)]

    for one, other in zip(whole(), whole("trainer.global_batch_tokens=1280"), strict=True):
        assert torch.equal(one, other)


def test_evaluation_takes_all_there_is_and_says_so(batches, shared, caplog):
    there = batches("topology=causal_decoder")
    with caplog.at_level(logging.WARNING):
        found = there.evaluation(10**7, 1)
    n = shared[0].validation.n_windows(32)
    assert sum(len(batch["targets"]) for batch in found) == n
    assert [len(batch["targets"]) for batch in found[:-1]] == [16] * (len(found) - 1)
    assert f"has {n} windows" in caplog.text and "all are used" in caplog.text


def test_random_ids_come_from_the_text(batches, shared):
    """Not bytes that do not occur, sentinels or unused ids."""
    there = batches("topology=encoder", "objective.random_share=1.0", "objective.keep_share=0.0")
    assert there.objective.text_ids.tolist() == shared[0].text_ids.tolist()
    drawn = torch.cat([there.train(step)["encoder_ids"] for step in range(20)]).unique().numpy()
    assert len(shared[0].text_ids) < shared[0].layout.text_size - 100
    assert set(drawn.tolist()) <= {*shared[0].text_ids.tolist(), shared[0].eos_id}


def test_too_little_text(shared):
    with pytest.raises(UserError, match="tokens make .* windows of 141, and a batch takes 8192"):
        Batches(compose(merge(shared[1], ["shape.length=128", "shape.batch_tokens=1048576"])), shared[0])


def test_too_little_validation_text(config, tmp_path):
    cfg = config(
        write_jsonl(tmp_path / "text.jsonl", texts(150, words=12)), "shape.length=512", "shape.batch_tokens=512"
    )
    with pytest.raises(UserError, match="its validation part has .* tokens and a window takes 568"):
        Batches(cfg, build_corpus.prepare(cfg))


def test_large_batches_are_prefetched(batches, monkeypatch):
    """A thread makes the next one; steps may come in any order."""
    here = batches()
    monkeypatch.setattr(module, "CHUNK_TOKENS", 512)
    there = batches()
    assert isinstance(there._chunk, module.Prefetcher)
    alone = [there._make(step)[0] for step in range(8)]
    for step in (0, 1, 2, 5, 4, 5, 6, 0, 7):
        assert equal(there.train(step), alone[step])
    assert not equal(here.train(1), there.train(1))  # masks are drawn for a chunk


def test_an_error_in_the_thread_is_raised(batches, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_TOKENS", 512)
    there = batches()
    monkeypatch.setattr(there.objective, "apply", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        there.train(0)


def test_evaluation_at_another_length(batches, shared):
    """The same text and seed, in longer windows of the validation part; as long a batch in tokens."""
    made = batches("topology=causal_decoder")
    longer = made.evaluation(16 * 128, 7, 128)
    assert [batch["targets"].shape for batch in longer[:2]] == [(4, 128), (4, 128)]
    assert sum(len(batch["targets"]) for batch in longer) == 16
    windows = shared[0].validation.windows(np.arange(shared[0].validation.n_windows(128)), 128)
    there = {tuple(window) for window in windows.tolist()}
    assert {tuple(row) for batch in longer for row in batch["targets"].tolist()} <= there
    assert equal(made.evaluation(4096, 7, 32)[0], made.evaluation(4096, 7)[0])
    with pytest.raises(UserError, match=r"an evaluation takes windows of 1000000; raise data.validation_share"):
        made.evaluation(4096, 7, 1000000)


@pytest.mark.parametrize("name", ["recall", "retrieval", "copying", "induction"])
def test_made_up_batches_follow_from_seed_and_step(batches, name):
    """Whatever the size of the text's windows; another seed and another step give others."""
    overrides = ("topology=causal_decoder", f"objective={name}")
    one, same = batches(*overrides), batches(*overrides)
    assert equal(one.train(5), same.train(5)) and not equal(one.train(5), one.train(6))
    assert not equal(one.train(5), batches(*overrides, "seed=1").train(5))
    assert equal(one.evaluation(512, 7)[0], batches(*overrides, "seed=1").evaluation(512, 7)[0])
    assert not equal(one.evaluation(512, 7)[0], one.evaluation(512, 8)[0])
