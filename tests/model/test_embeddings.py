"""Factorized and clustered embeddings: against a full table, against ALBERT, and where the clusters lie."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ablate.config import build_model, compose
from ablate.data import vocabulary
from ablate.errors import UserError
from ablate.model.clusters import cluster_sizes
from tests.model.tiny import SHAPE, batch_for, overrides, set_all, tiny, train_step

V, D = SHAPE["vocab_size"], SHAPE["d_model"]


def embedding_of(*given: str):
    model = tiny(*given)
    set_all(model)
    return model.topology.decoder.embedding


def as_table(embedding) -> torch.Tensor:
    """(V,D): the vector of each id."""
    return embedding.vectors(torch.arange(V)[None])[0]


@pytest.mark.parametrize("option", ["factorized", "clusters", "clusters_no_projection"])
@pytest.mark.parametrize("topology", ["encoder_decoder", "causal_decoder", "prefix_decoder", "encoder"])
def test_a_full_table_with_the_same_vectors_gives_the_same_model(option, topology):
    """The vectors at the input, and their products with the hidden states at the output."""
    model, full = (tiny(f"embedding={name}", f"topology={topology}").eval() for name in (option, "table"))
    set_all(model, (0.3,))
    state = {name: values for name, values in model.state_dict().items() if "embedding" not in name}
    tables = {name: as_table(model.head.embedding) for name in full.state_dict() if "embedding" in name}
    full.load_state_dict({**state, **tables})
    for padded in (False, True):
        batch = batch_for(model, padded=padded)
        torch.testing.assert_close(model.logits(batch), full.logits(batch), atol=1e-4, rtol=1e-4)


def test_factorized_is_alberts():
    from transformers import AlbertConfig, AlbertModel

    config = AlbertConfig(vocab_size=V, embedding_size=4, hidden_size=D, num_attention_heads=6, intermediate_size=8)
    albert, ours = AlbertModel(config), embedding_of("embedding=factorized")
    projection = albert.encoder.embedding_hidden_mapping_in
    with torch.no_grad():
        albert.embeddings.word_embeddings.weight.copy_(ours.product.table)
        projection.weight.copy_(ours.product.up.T)
        projection.bias.zero_()
    ids = torch.randint(V, (2, 9))
    torch.testing.assert_close(ours(ids), projection(albert.embeddings.word_embeddings(ids)))


def test_all_of_the_width_is_the_table():
    """The identity as second factor; and one cluster of everything."""
    factorized, one, table = (
        embedding_of(f"embedding={option}", *numbers)
        for option, *numbers in (
            ("factorized", f"embedding.d_inner={D}"),
            ("clusters", "embedding.shares=[]", f"embedding.widths=[{D}]"),
            ("table",),
        )
    )
    with torch.no_grad():
        factorized.product.up.copy_(torch.eye(D))
        for own in (factorized.product.table, one.clusters[0].table):
            own.copy_(table.table)
    ids, hidden = torch.randint(V, (2, 9)), torch.randn(2, 9, D)
    for other in (factorized, one):
        torch.testing.assert_close(other(ids), table(ids))
        torch.testing.assert_close(other.logits(hidden), table.logits(hidden))


@pytest.mark.parametrize("apart", ["false", "true"])
def test_clusters_by_hand(apart):
    embedding = embedding_of("embedding=clusters", f"embedding.special_apart={apart}", "embedding.scale=3.0")
    assert embedding.sizes == ([5, 12, 175] if apart == "false" else [5, 12, 47, 128])
    vectors, at = [], 0
    for cluster, size in zip(embedding.clusters, embedding.sizes, strict=True):
        assert len(cluster.table) == size
        vectors.append(cluster.table @ cluster.up if hasattr(cluster, "up") else cluster.table)
        at += size
    ids = torch.tensor([[0, 4, 5, 16, 17, 63, 64, 191]])
    torch.testing.assert_close(embedding(ids), 3 * torch.cat(vectors)[ids])
    assert at == V


def test_an_id_trains_its_own_row_alone():
    embedding = embedding_of("embedding=clusters")
    for index in (0, 4, 5, 16, 17, 191):
        embedding.zero_grad()
        embedding(torch.tensor([[index]])).square().sum().backward()
        rows = torch.cat([cluster.table.grad.abs().sum(-1) for cluster in embedding.clusters])
        assert rows.nonzero().flatten().tolist() == [index]


@pytest.mark.parametrize(
    ("shape", "sizes", "widths"),
    [
        ("paper", [2500, 6000, 23500, 128], [768, 256, 64, 768]),
        ("small", [1270, 3048, 11938, 128], [384, 128, 32, 384]),
        ("micro", [310, 744, 2914, 128], [96, 32, 8, 96]),
        ("nano", [150, 360, 1410, 128], [48, 16, 4, 48]),
    ],
)
def test_the_papers_clusters_at_every_shape(shape, sizes, widths):
    """The adaptive input has the special ids in the last cluster, the adaptive softmax in one of their own."""
    cfg = compose([f"shape={shape}", "head=adaptive_softmax"])
    embedding = build_model(cfg, device="meta").head.embedding
    assert embedding.sizes == sizes and [cluster.table.shape[1] for cluster in embedding.clusters] == widths
    together = build_model(compose([f"shape={shape}", "embedding=clusters"]), device="meta").head.embedding
    assert together.sizes == [*sizes[:2], sizes[2] + sizes[3]]
    ids = vocabulary.trained(cfg.tokenizer.vocab_size, cfg.tokenizer.sentinels)
    assert embedding.starts[3] == ids.text_size == ids.sentinels.min()


@pytest.mark.parametrize("init", ["paper", "paper_adam"])
@pytest.mark.parametrize("option", ["factorized", "clusters"])
def test_vectors_start_with_the_deviation_of_a_table(init, option):
    wide = overrides(f"embedding={option}", f"init={init}", vocab_size=2048, d_model=192)
    embedding = build_model(compose(wide)).head.embedding
    vectors = embedding(torch.arange(2048)[None])[0]
    for part in (vectors[:150], vectors[150:500], vectors[600:]):
        assert part.std().item() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("given", "shape", "message"),
    [
        (["factorized"], {"d_model": 20}, "embedding.d_inner.*1/6 of shape.d_model = 20"),
        (["clusters"], {"vocab_size": 200}, "5/64 of embedding.shares: .* = 72 is 5.625"),
        (["clusters"], {"vocab_size": 128}, "embedding.special=128: must be below the vocabulary size 128"),
        (["clusters", "embedding.shares=[1/2,1/2]", "embedding.special=0"], {}, "leave none for the last cluster"),
        (["clusters", "embedding.widths=[24,8]"], {}, "embedding.widths: must be 3"),
        (["clusters", "embedding.widths=[24,8,0]"], {}, "embedding.widths: 24, 8, 0: each must be from 1 to 24"),
        (["clusters", "embedding.widths=[25,8,2]"], {}, "embedding.widths: 25, 8, 2: each must be from 1 to 24"),
        (["clusters", "embedding.shares=[0,1/2]"], {}, "0 of embedding.shares: .* = 64 is 0, and must be at least 1"),
        (["factorized", "embedding.tie=[encodr]"], {}, "'encodr' must be one of.*did you mean 'encoder'"),
    ],
)
def test_refusals(given, shape, message):
    with pytest.raises(UserError, match=message):
        tiny(f"embedding={given[0]}", *given[1:], **shape)


@pytest.mark.parametrize("option", ["factorized", "clusters"])
@pytest.mark.parametrize("tie", ["[]", "[encoder,decoder]", "[decoder,head]"])
def test_ties(option, tie):
    """Each that is not tied has tables of its own, the head a full matrix."""
    model = tiny(f"embedding={option}", f"embedding.tie={tie}")
    encoder, decoder = model.topology.encoder.embedding, model.topology.decoder.embedding
    assert (encoder is decoder) == (tie == "[encoder,decoder]")
    assert (model.head.embedding is decoder) == (tie == "[decoder,head]")
    assert (model.head.projection is None) == (tie == "[decoder,head]")
    train_step(model, batch_for(model))
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_clusters_are_narrow_for_rare_ids_only_in_width():
    """A vector of a narrow cluster lies in the span of its projection."""
    embedding = embedding_of("embedding=clusters")
    vectors = as_table(embedding)[17:64]
    assert torch.linalg.matrix_rank(vectors) == 2
    torch.testing.assert_close(vectors, functional.linear(embedding.clusters[2].table[:47], embedding.clusters[2].up.T))


@pytest.mark.parametrize(
    ("vocab_size", "shares", "special", "apart", "sizes"),
    [
        (10, ["1/2"], 0, False, [5, 5]),
        (10, ["9/10"], 0, False, [9, 1]),  # one id is enough for the last cluster
        (10, ["1/10", "8/10"], 0, False, [1, 8, 1]),  # and for the others
        (10, ["1/1"], 5, False, [5, 5]),  # the special ids alone are a last cluster, too
        (10, [], 9, True, [1, 9]),  # one piece is enough
        (10, ["1/2"], 2, True, [4, 4, 2]),
        (10, ["1/2"], 2, False, [4, 6]),
    ],
)
def test_the_least_that_clusters_can_have(vocab_size, shares, special, apart, sizes):
    assert cluster_sizes(vocab_size, shares, special, apart) == sizes


def test_special_ids_apart_leave_the_last_cluster_empty():
    with pytest.raises(UserError, match="1/1 of the pieces leave none for the last cluster"):
        cluster_sizes(10, ["1/1"], 5, True)


@pytest.mark.parametrize("widths", [[24, 8, 1], [1, 1, 1], [24, 24, 24]])
def test_a_width_is_from_1_to_that_of_the_model(widths):
    embedding = embedding_of("embedding=clusters", f"embedding.widths={widths}".replace(" ", ""))
    assert [cluster.table.shape[1] for cluster in embedding.clusters] == widths


@torch.no_grad()
def test_the_norm_of_a_sum_is_behind_positions_and_token_types():
    model = tiny("topology=encoder", "embedding.norm=true", "embedding.norm_of_sum=true", "embedding.token_types=3",
                 "position=learned").eval()  # fmt: skip
    set_all(model)
    tower, seen, batch = model.topology.encoder, [], batch_for(model)
    tower.stack.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    batch["encoder_token_types"] = batch["encoder_ids"] % 3
    model.logits(batch)
    added = tower.embedding.table[batch["encoder_ids"]] + tower.position.table[:12]
    added = added + tower.token_types.table[batch["encoder_token_types"]]
    expected = functional.layer_norm(added, (D,), tower.norm.scale, tower.norm.shift, 1e-6)
    torch.testing.assert_close(seen[0], expected)


@pytest.mark.parametrize("tie", ["[encoder,decoder]", "[decoder,head]"])
def test_token_types_are_shared_as_the_embedding_is(tie):
    topology = tiny("embedding.token_types=2", f"embedding.tie={tie}").topology
    assert (topology.encoder.token_types is topology.decoder.token_types) == ("encoder" in tie)


@pytest.mark.parametrize("project_sum", ["true", "false"])
def test_what_is_added_has_the_width_at_which_it_is_added(project_sum):
    model = tiny("embedding=projected", "embedding.norm=true", "embedding.token_types=2", "position=learned",
                 f"embedding.project_sum={project_sum}")  # fmt: skip
    tower, width = model.topology.encoder, 4 if project_sum == "true" else D
    assert {part.shape[-1] for part in (tower.token_types.table, tower.position.table, tower.norm.scale)} == {width}
    assert tower.embedding.table.shape == (V, 4) and model.head.narrow.weight.shape == (4, D)


def test_other_heads_meet_a_narrow_table():
    model = tiny("embedding=projected", "head=mixture_of_softmaxes", "head.n_softmaxes=2")
    assert torch.isfinite(train_step(model, batch_for(model)))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["embedding.norm_of_sum=true"], "embedding.norm_of_sum=true has no effect with embedding.norm=false"),
        (["embedding.token_types=-1"], "embedding.token_types=-1: must not be negative"),
        (["embedding.token_types=0.5"], "embedding.token_types=0.5: must be a whole number"),
        (["embedding=projected", "embedding.d_inner=0"], "embedding.d_inner=0: must be a whole number, 1 or more"),
        (["head.soft_cap=0"], "head.soft_cap=0: must be above 0"),
        (["head.logit_scale=-1"], "head.logit_scale=-1.0: must not be negative"),
        (["head.soft_cap=high"], "head.soft_cap=high: must be above 0"),
        (["topology=encoder", "head=transformed_softmax", "norm=batchnorm"], "head.transform_norm=true: the norm in"),
        (["head=adaptive_softmax", "embedding=projected"], "head=adaptive_softmax"),
    ],
)
def test_what_cannot_be_is_refused(overrides, line):
    with pytest.raises(UserError, match=line):
        tiny(*overrides)
