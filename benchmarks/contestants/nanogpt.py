"""nanoGPT: the GPT of its `model.py`, which is on no package registry; `sources` fetches it."""

from __future__ import annotations

from . import sources
from .contract import Made
from .weights import State
from .work import Work


def make(work: Work, weights: State) -> Made:
    """The GPT-2-like model, whose weights have the names that `transformers` has."""
    module = sources.load("nanogpt", "model.py")
    assert work.d_ff == 4 * work.d_model, "nanoGPT's feed-forward is four times as wide as the model"
    model = module.GPT(
        module.GPTConfig(
            block_size=work.length,
            vocab_size=work.vocab_size,
            n_layer=work.n_layers,
            n_head=work.n_heads,
            n_embd=work.d_model,
            dropout=0.0,
            bias=True,
        )
    )
    model.load_state_dict({**weights, "lm_head.weight": weights["transformer.wte.weight"]}, strict=True)
    return Made(model.train(), lambda batch: model(batch["decoder_ids"], batch["targets"])[1])
