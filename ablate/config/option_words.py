"""Other names of options, as papers and libraries have them: the hint behind an option that is unknown.

>>> hint("attention", "gqa")
'; grouped-query attention is attention=grouped_query'
"""

from __future__ import annotations

# By group: other names, what they mean, and the options of the group that do it; none where nothing does.
_TABLE: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "activation": (
        ("silu", "SiLU", ("swish",)),
        ("gelu_new gelu_tanh gelu_pytorch_tanh gelu_fast", "GELU in its tanh approximation", ("gelu",)),
        ("relu2 relu_squared", "squared ReLU", ("squared_relu",)),
        ("swish_glu silu_glu silu_and_mul", "a linear unit with a SiLU gate", ("swiglu",)),
        ("gelu_glu gated_gelu", "a linear unit with a GELU gate", ("geglu",)),
        ("bilinear", "a gate without an activation", ("liglu",)),
        ("tanh leaky_relu mish", "this activation", ()),
    ),
    "attention": (
        (
            "mha multi_head multihead vanilla dense softmax sdpa flash flash_attention eager",
            "full attention",
            ("full",),
        ),
        ("gqa grouped", "grouped-query attention", ("grouped_query",)),
        ("mqa multiquery", "multi-query attention", ("multi_query",)),
        ("swa sliding local window windowed", "attention to the nearest tokens", ("sliding_window",)),
        ("bigbird block_sparse_attention", "block-sparse attention", ("block_sparse",)),
        ("sparse strided", "attention with strided or fixed factors", ("factorized", "factorized_fixed")),
        ("lightconv", "lightweight convolution", ("lightweight_convolution",)),
        ("dynamicconv", "dynamic convolution", ("dynamic_convolution",)),
        ("synthesizer", "a Synthesizer", ("synthesizer_dense", "synthesizer_random")),
        ("linear performer mla mamba linformer retention rwkv", "this attention", ()),
    ),
    "norm": (
        ("ln layer_norm", "layer normalisation", ("layernorm",)),
        ("rms rms_norm t5", "root-mean-square normalisation", ("rmsnorm",)),
        ("bn batch_norm", "batch normalisation", ("batchnorm",)),
        ("scale_norm l2norm", "scale normalisation", ("scalenorm",)),
        ("identity no no_norm", "no normalisation", ("none",)),
        ("groupnorm instancenorm deepnorm", "this normalisation", ()),
    ),
    "position": (
        ("rotary rotary_embedding", "a rotary embedding", ("rope",)),
        ("absolute learned_absolute gpt2 bert", "a learned vector for each position", ("learned",)),
        ("sine sin fixed vanilla", "sines of the position", ("sinusoidal",)),
        ("t5 t5_bias relative rel_bias", "T5's bias by distance", ("relative_bias",)),
        ("shaw", "Shaw et al.'s relative representations", ("relative_representation",)),
        ("nope no no_position", "no position", ("none",)),
        ("xpos kerple fire", "this position", ()),
    ),
    "feedforward": (
        ("moe experts", "a mixture of experts", ("mixture_of_experts",)),
        ("switch_transformer top1", "one expert a token", ("switch",)),
        ("pkm", "product-key memory", ("product_key_memory",)),
        ("mlp ffn", "the plain feed-forward layer", ("dense",)),
    ),
    "optimizer": (
        ("adam_w", "Adam with decoupled weight decay", ("adamw",)),
        ("sgd lion muon sophia lamb shampoo", "this optimizer", ()),
    ),
    "schedule": (
        ("cosine_decay cosine_annealing cosine_with_warmup", "a cosine to the end", ("cosine",)),
        ("linear_decay linear_warmup_decay", "a line to the end", ("linear",)),
        ("trapezoid trapezoidal warmup_stable_decay", "warm-up, a constant rate, a decay", ("wsd",)),
        ("rsqrt noam inverse_square_root", "the inverse square root of the step", ("inverse_sqrt",)),
        ("none fixed", "a constant rate", ("constant",)),
    ),
    "topology": (
        ("decoder decoder_only gpt causal lm", "a causal decoder", ("causal_decoder",)),
        ("encoder_only bert", "an encoder alone", ("encoder",)),
        ("t5 seq2seq encdec", "an encoder-decoder", ("encoder_decoder",)),
        ("prefix_lm prefixlm", "a decoder with a prefix", ("prefix_decoder",)),
    ),
    "objective": (
        ("clm lm next_token autoregressive", "each token from those before it", ("causal",)),
        ("mlm bert", "masked tokens from both sides", ("masked",)),
        ("t5 spans denoising span", "spans from sentinels", ("span_corruption",)),
        ("prefix_lm prefixlm", "the rest from a prefix", ("prefix",)),
    ),
}
WORDS = {
    group: {word: (meaning, options) for words, meaning, options in rows for word in words.split()}
    for group, rows in _TABLE.items()
}


def hint(group: str, option: str) -> str:
    """The tail of an error line that names the option that `option` usually means; empty for any other word."""
    meaning, options = WORDS.get(group, {}).get(option.lower().replace("-", "_"), ("", ()))
    if not meaning:
        return ""
    if not options:
        return f"; {meaning} is not among the options: a package of yours may bring it"
    return f"; {meaning} is {' or '.join(f'{group}={name}' for name in options)}"
