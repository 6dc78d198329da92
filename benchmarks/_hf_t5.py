"""T5 of the transformers library trained on span corruption, as a user writes it: the other side of as_shipped.py.

    python _hf_t5.py trainer|bare TEXT TOKENIZER STEPS OUTPUT

trainer  transformers' Trainer over a tokenized data set and a collator, everything else as it comes
bare     a plain loop over the same batches, with denormal numbers flushed to zero
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    Adafactor,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

LENGTH, BATCH, DENSITY, MEAN_SPAN = 256, 8, 0.15, 3.0
SENTINELS, VOCABULARY = 100, 8192
RATE = 1e-3


def raw_length() -> tuple[int, int]:
    """The tokens of text that make an input of `LENGTH`, and those of its target: ends and sentinels included."""
    raw = LENGTH
    while True:
        noise = round((raw + 1) * DENSITY)
        spans = round(noise / MEAN_SPAN)
        if raw + 1 - noise + spans + 1 > LENGTH:
            break
        raw += 1
    noise = round(raw * DENSITY)
    return raw, noise + round(noise / MEAN_SPAN) + 1


class Collator:
    """Spans of noise are replaced by sentinels in the input and are the target, as in T5."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.eos = tokenizer.eos_token_id
        self.sentinels = tokenizer.convert_tokens_to_ids([f"<extra_id_{number}>" for number in range(SENTINELS)])
        self.random = np.random.default_rng(0)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Rows of `raw_length()` ids -> "input_ids" (B, LENGTH) and "labels" (B, T)."""
        pairs = [self._corrupted(np.asarray(example["input_ids"])) for example in examples]
        inputs, labels = (torch.tensor(np.stack(side)) for side in zip(*pairs, strict=True))
        return {"input_ids": inputs, "labels": labels}

    def _corrupted(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        noise = round(len(ids) * DENSITY)
        spans = round(noise / MEAN_SPAN)
        kept, lost = self._cut(len(ids) - noise, spans), self._cut(noise, spans)
        inputs, labels, place = [], [], 0
        for number in range(spans):
            inputs += [*ids[place : place + kept[number]], self.sentinels[number]]
            place += kept[number]
            labels += [self.sentinels[number], *ids[place : place + lost[number]]]
            place += lost[number]
        return np.array([*inputs, self.eos]), np.array([*labels, self.eos])

    def _cut(self, total: int, pieces: int) -> np.ndarray:
        """`pieces` sizes, none of them 0, that make `total`."""
        ends = np.sort(self.random.choice(total - 1, pieces - 1, replace=False)) + 1
        return np.diff(np.concatenate([[0], ends, [total]]))


def data_set(text: Path, tokenizer: PreTrainedTokenizerFast) -> Dataset:
    """The documents, tokenized, put one after the other and cut into rows of `raw_length()` ids."""
    raw, _ = raw_length()
    documents = Dataset.from_dict({"text": text.read_text().split("\n\n")})

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[*ids, tokenizer.eos_token_id] for ids in tokenizer(batch["text"])["input_ids"]]}

    def group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        ids = [one for row in batch["input_ids"] for one in row]
        return {"input_ids": [ids[start : start + raw] for start in range(0, len(ids) - raw + 1, raw)]}

    tokenized = documents.map(tokenize, batched=True, remove_columns=["text"])
    return tokenized.map(group, batched=True, remove_columns=tokenized.column_names)


def model() -> T5ForConditionalGeneration:
    """Four layers each, of width 256, with a gated feed-forward."""
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY, d_model=256, d_kv=64, num_heads=4, d_ff=688, num_layers=4, num_decoder_layers=4,
            feed_forward_proj="gated-gelu", dropout_rate=0.0, decoder_start_token_id=0, tie_word_embeddings=True,
        )
    )  # fmt: skip


def by_trainer(rows: Dataset, collator: Collator, steps: int, output: str) -> None:
    """Train with transformers' Trainer."""
    arguments = TrainingArguments(
        output_dir=output,
        per_device_train_batch_size=BATCH,
        max_steps=steps,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        optim="adafactor",
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
    )
    Trainer(model=model(), args=arguments, train_dataset=rows, data_collator=collator).train()


def by_hand(rows: Dataset, collator: Collator, steps: int) -> None:
    """Train by a loop."""
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    t5 = model()
    optimizer = Adafactor(t5.parameters(), lr=RATE, scale_parameter=False, relative_step=False)
    order = np.random.default_rng(1).permutation(len(rows))
    for step in range(steps):
        chosen = [rows[int(order[index % len(rows)])] for index in range(step * BATCH, (step + 1) * BATCH)]
        loss = t5(**collator(chosen)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(t5.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    kind, text, tokenizer_file, steps, output = sys.argv[1:]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=tokenizer_file,
        pad_token="<pad>",
        eos_token="</s>",
        additional_special_tokens=[f"<extra_id_{number}>" for number in range(SENTINELS)],
    )
    rows, collator = data_set(Path(text), tokenizer), Collator(tokenizer)
    if kind == "trainer":
        by_trainer(rows, collator, int(steps), output)
    else:
        by_hand(rows, collator, int(steps))


if __name__ == "__main__":
    main()
