"""How fast zero-shot tasks are asked: lm-eval's own `hf` model against ours, the same weights, on one thread.

Over the first 200 items each of HellaSwag, PIQA, ARC-easy and BoolQ, with a trained Llama of 0.26 M parameters and
one of 10 M: the time of the log-likelihoods, `hf` at the best of its batch sizes. Both are given the same ids.

    ABLATE_TASKS=tasks python benchmarks/zero_shot.py [--check] [--items 200]

ABLATE_TASKS names a folder with the tasks' files and, in stories260K/, the model of llama2.c with its tokenizer.
Without it nothing is measured. With --check it fails if ours is below 1.5 times as fast, or a log-likelihood differs
by more than 1e-4 a token.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

TASKS = ("hellaswag", "piqa", "arc_easy", "boolq")
BATCH_SIZES = (1, 8, 32, 64)
LENGTH, GOAL, START, TOLERANCE = 512, 1.5, 1, 1e-4
TEN_MILLION = {
    "hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 8, "vocab_size": 512, "max_position_embeddings": LENGTH, "tie_word_embeddings": True,
}  # fmt: skip


def questions(folder: Path, tokenizer, items: int) -> dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """The ids of contexts, the start symbol first, and of answers, by task."""
    from ablate.evaluation.zero_shot import scoring
    from ablate.evaluation.zero_shot.loading import Tasks

    found = {}
    for task in TASKS:
        (loaded,) = Tasks(folder, None, None).load(task, items)
        pairs = [request.args for item in scoring.asked(loaded) for request in item.requests]
        contexts = tokenizer.encode([context for context, _ in pairs])
        wholes = tokenizer.encode([context + answer for context, answer in pairs])
        found[task] = [
            ((START, *context.tolist()), tuple(whole[len(context) :].tolist()))
            for context, whole in zip(contexts, wholes, strict=True)
        ]
    return found


def library_model(model):
    """lm-eval's `hf` around a model of `transformers`; its tokenizer is not asked."""
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<s>": START, "</s>": 2, "<unk>": 0}, "<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    return HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", device="cpu", max_length=LENGTH)


def timed(do) -> tuple[float, list]:
    """Seconds of the processor, which other programs do not change much, and what is returned."""
    began = time.process_time()
    found = do()
    return time.process_time() - began, found


def measure(name: str, config: dict, state: dict | None, asked: dict) -> tuple[float, float]:
    """Print the table of a model; returns the ratio over all tasks, and the largest difference a token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from ablate.config import build_model, compose
    from ablate.data.prompt import Prompt
    from ablate.evaluation.likelihood import Question, Scorer
    from ablate.weights.form import LLAMA

    torch.manual_seed(0)
    library = LlamaForCausalLM(LlamaConfig(**config)).eval()
    if state is not None:
        library.load_state_dict(state, strict=False)
        library.tie_weights()
    ours = build_model(compose(LLAMA.overrides(library.config))).eval()
    LLAMA.load(ours, library.state_dict())
    hf, scorer = library_model(library), Scorer(ours, length=LENGTH, batch_tokens=2048)
    totals, difference = dict.fromkeys((*BATCH_SIZES, "ours"), 0.0), 0.0
    print(f"{name}: {sum(weight.numel() for weight in ours.parameters()) / 1e6:.2f} M parameters")
    for task, pairs in asked.items():
        seconds = {}
        for size in BATCH_SIZES:
            hf.batch_size_per_gpu = size
            requests = [(("", ""), [*context], [*answer]) for context, answer in pairs]
            seconds[size], theirs = timed(lambda r=requests: hf._loglikelihood_tokens(r, disable_tqdm=True))
        given = [Question(Prompt(context), answer) for context, answer in pairs]
        seconds["ours"], found = timed(lambda g=given: scorer(g))
        for (_, answer), their, mine in zip(pairs, theirs, found, strict=True):
            difference = max(difference, abs(their[0] - mine.log_likelihood) / len(answer))
        for size, value in seconds.items():
            totals[size] += value
        best = min(seconds[size] for size in BATCH_SIZES)
        each = ", ".join(f"{size}: {seconds[size]:.2f} s" for size in BATCH_SIZES)
        print(
            f"  {task:10} hf {each}; ours {seconds['ours']:.2f} s; {best / seconds['ours']:.2f} times as fast",
            flush=True,
        )
    best = min(totals[size] for size in BATCH_SIZES)
    print(f"  all        {best / totals['ours']:.2f} times as fast; largest difference a token {difference:.1e}")
    return best / totals["ours"], difference


def main() -> int:
    """Returns 1 where --check fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--items", type=int, default=200, help="of each task")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("ABLATE_TASKS", ""))
    stories = folder / "stories260K" / "stories260K.bin"
    if not os.environ.get("ABLATE_TASKS") or not stories.is_file():
        print("not measured: ABLATE_TASKS names no folder with the tasks' files and stories260K/stories260K.bin")
        return 0
    torch.set_num_threads(1)
    from ablate.data.tokenizer_backends import SentencePiece
    from ablate.weights import llama2c

    tokenizer = SentencePiece((folder / "stories260K" / "tok512.model").read_bytes())
    config, state = llama2c.read(stories)
    failed = False
    asked = questions(folder, tokenizer, arguments.items)
    for name, settings, weights in (("stories260K", config, state), ("Llama", TEN_MILLION, None)):
        with torch.no_grad():
            ratio, difference = measure(name, settings, weights, asked)
        failed |= ratio < GOAL or difference > TOLERANCE
    return int(arguments.check and failed)


if __name__ == "__main__":
    sys.exit(main())
