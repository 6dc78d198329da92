"""Words that other training programs use for a setting, and how it is set here: the hint behind a key that is unknown.

>>> hint("lr")
'; the peak learning rate: set schedule.peak=1e-3'
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """What is meant, and ways to set it: each one or more overrides, with spaces in between."""

    meaning: str
    ways: tuple[str, ...]


_TABLE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("lr learning_rate base_lr max_lr peak_lr", "the peak learning rate", ("schedule.peak=1e-3",)),
    ("scheduler lr_scheduler lr_schedule", "the course of the learning rate", ("schedule=cosine",)),
    (
        "batch_size bs batch global_batch_size train_batch_size",
        "the batch is counted in input tokens a step",
        ("trainer.global_batch_tokens=4096",),
    ),
    (
        "micro_batch_size per_device_train_batch_size accumulate_grad_batches gradient_accumulation_steps",
        "a device takes so many sequences at once, and accumulates the batch",
        ("trainer.micro_batch=8",),
    ),
    (
        "epochs epoch num_epochs max_epochs steps n_steps num_steps max_steps train_steps iters max_iters iterations",
        "training is counted in steps",
        ("trainer.steps=1000",),
    ),
    (
        "seq_len seqlen seq_length sequence_length context context_length context_size n_ctx block_size max_length",
        "the length of a sequence in tokens",
        ("shape.length=128",),
    ),
    ("layers layer n_layer num_layers num_hidden_layers depth", "the layers of each stack", ("shape.n_layers=4",)),
    ("width model_dim embed_dim d_embed n_embd dim", "the width of the model", ("shape.d_model=64",)),
    (
        "hidden hidden_size hidden_dim",
        "the width of the model, or of its feed-forward layers",
        ("shape.d_model=64", "shape.d_ff=256"),
    ),
    ("ffn_dim mlp_dim intermediate_size", "the width of the feed-forward layers", ("shape.d_ff=256",)),
    (
        "heads n_head num_heads num_attention_heads",
        "the number of heads, or the width of each",
        ("shape.n_heads=4", "shape.head_dim=16"),
    ),
    ("vocab vocab_size vocabulary vocabulary_size", "the size of the vocabulary", ("shape.vocab_size=4096",)),
    ("type_vocab_size token_type_vocab_size n_segments", "the types of tokens", ("embedding.token_types=2",)),
    (
        "embedding_size word_embed_proj_dim",
        "the width of a narrow table",
        ("embedding=projected embedding.d_inner=8",),
    ),
    (
        "final_logit_softcapping logit_softcapping logit_soft_cap soft_cap",
        "the bound that logits approach",
        ("head.soft_cap=30.0",),
    ),
    (
        "warmup warmup_steps num_warmup_steps warmup_iters warmup_ratio",
        "warm-up is counted in steps, or is a part of them",
        ("schedule.warmup_steps=100", "schedule=cosine schedule.warmup=0.02"),
    ),
    ("weight_decay wd", "weight decay is AdamW's", ("optimizer=adamw optimizer.weight_decay=0.1",)),
    (
        "betas beta1 beta2 adam_beta1 adam_beta2",
        "the betas are Adam's and AdamW's",
        ("optimizer=adamw optimizer.beta1=0.9 optimizer.beta2=0.95",),
    ),
    (
        "clip grad_clip clip_grad clip_grad_norm gradient_clip gradient_clip_val max_grad_norm",
        "the largest norm of the gradient",
        ("trainer.clip_norm=1.0",),
    ),
    (
        "precision mixed_precision bf16 fp16 fp32 amp dtype",
        "float32, or bfloat16 by autocast",
        ("trainer.precision=fp32", "trainer.precision=bf16"),
    ),
    ("device accelerator cuda gpu cpu", "the device", ("trainer=gpu", "trainer=cpu")),
    ("gpus n_gpus num_gpus devices n_devices num_devices world_size", "GPUs", ("trainer=gpu trainer.devices=2",)),
    (
        "workers n_workers num_workers",
        "batches need no workers (jobs=2 is for runs of a sweep at a time); threads of a run",
        ("trainer.threads=2",),
    ),
    (
        "dataset dataset_name corpus train_file data_path data_dir",
        "the text",
        ("data=local data.files=my.txt", "data=hub data.path=NAME", "data=c4"),
    ),
    (
        "model model_name model_type architecture arch",
        "a model is its topology, its size and the other groups of `ablate options`",
        ("topology=causal_decoder", "shape=micro"),
    ),
    ("project entity wandb wandb_project", "Weights & Biases", ("logger=wandb logger.mirror.project=NAME",)),
    (
        "eval_every eval_steps eval_interval val_check_interval",
        "steps to an evaluation",
        ("trainer.evaluate_every=50",),
    ),
    ("save_every save_steps save_interval", "steps to a checkpoint", ("trainer.checkpoint_every=100",)),
)
WORDS = {word: Setting(meaning, ways) for words, meaning, ways in _TABLE for word in words.split()}
HOLDERS = frozenset(  # what such a word may stand below: `optimizer.lr`, `model.n_layer`
    "optimizer optim schedule scheduler trainer training train data model shape config args wandb logger".split()
)


def hint(key: str) -> str:
    """The tail of an error line that names the setting that `key` usually means; empty for any other word."""
    *above, word = key.lower().replace("-", "_").split(".")
    setting = WORDS.get(word) if set(above) <= HOLDERS else None
    return f"; {setting.meaning}: set {' or '.join(setting.ways)}" if setting else ""
