"""The training step alone, on a model of two parameters."""

import math
import multiprocessing
import os
import subprocess
import sys
import time
import types

import pytest
import torch
from torch import nn

from ablate.config.batch import Share
from ablate.errors import UserError
from ablate.evaluation.heldout import heldout_loss
from ablate.training.batching import Steps
from ablate.training.module import Training, seed_dropout
from ablate.training.progress import Agenda, Progress, StepTimer


class Line(nn.Module):
    """loss = mean of (weight x targets + bias)^2, or of what `shape` makes of it."""

    def __init__(self, shape=torch.square):
        super().__init__()
        self.weight, self.bias, self.shape = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.5)), shape

    def forward(self, batch):
        nll = self.shape(self.weight * batch["targets"] + self.bias)
        return nll.mean(), nll


def training(model, batch, shared=None, **options):
    """A module as the trainer sets it up, and the iterator that the trainer hands it."""
    shared = shared or Share(4, 1, 1)

    def micro(step, index, count):
        rows = len(batch) // count
        return {"targets": batch[index * rows : (index + 1) * rows]}

    module = Training(
        model, lambda parameters: torch.optim.SGD(parameters, lr=0.0), lambda step: 0.1, micro, shared,
        Agenda(100, 50, 1, None, None), Progress(), **options,
    )  # fmt: skip
    module.trained = list(model.parameters())
    module.optimizer = module.configure_optimizers()
    module.slices, module.on_device, module.is_alone = shared.slices(0), torch.device("cpu"), True
    batches = ((batch, 0, 0) for batch in Steps(micro, shared, 0, 0))
    return module, batches


TARGETS = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5], [2.0, 1.0]])


def test_a_step_is_gradient_descent():
    model, reference = Line(), Line()
    module, batches = training(model, TARGETS)
    module.training_step(batches)
    loss, _ = reference({"targets": TARGETS})
    loss.backward()
    for parameter, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter, other - 0.1 * other.grad)
    progress = module.progress
    assert progress.step == 1 and progress.mean_loss() == pytest.approx(loss.item())
    norm = torch.stack([parameter.grad for parameter in reference.parameters()]).norm().item()
    assert progress.gradient_norm == pytest.approx(norm) and progress.learning_rate == 0.1


def test_each_step_follows_its_own_gradient_alone():
    model, reference = Line(), Line()
    module, batches = training(model, TARGETS)
    for _ in range(3):
        module.training_step(batches)
        loss, _ = reference({"targets": TARGETS})
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(reference.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    for parameter, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter, other)


@pytest.mark.parametrize("accumulation", [2, 4])
def test_accumulation_gives_the_gradient_of_the_whole_batch(accumulation):
    whole, parts = Line(), Line()
    for model, shared in ((whole, Share(4, 1, 1)), (parts, Share(4, 1, accumulation))):
        module, batches = training(model, TARGETS, shared)
        module.training_step(batches)
        module.training_step(batches)
    for parameter, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_what_is_told_of_a_step_is_nats_a_target_that_counts(accumulation):
    """Terms that only training has are left out, so that rows with and without them can be compared."""

    class WithMore(Line):
        def forward(self, batch):
            loss, nll = super().forward(batch)
            return loss + 100.0, nll

    module, _ = training(WithMore(), TARGETS, Share(4, 1, accumulation))
    window = module.progress.spikes.windows["loss"].values
    weights = torch.tensor([[1.0, 1.0], [0.5, 0.0], [0.0, 0.0], [1.0, 0.0]])
    parts = [
        {"targets": targets, "weights": weight}
        for targets, weight in zip(TARGETS.chunk(accumulation), weights.chunk(accumulation), strict=True)
    ]
    module.training_step(iter([(parts, 0, 0)]))
    assert module.progress.mean_loss() == pytest.approx((1.5**2 + 2.5**2 + 3.5**2 + 2.5**2) / 4)
    assert list(window) == [module.progress.mean_loss()]  # spikes are looked for in the same


def test_a_step_is_timed_with_what_it_waits_for_its_batch(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    model = Line()
    module, batches = training(model, TARGETS)
    module.progress.timer.start(warm_up=0)

    def slow(seconds):
        now[0] += seconds
        return next(batches)

    forward = model.forward
    model.forward = lambda batch: (forward(batch), now.__setitem__(0, now[0] + 2.0))[0]
    for wait in (0.5, 1.5):
        module._step(iter(lambda wait=wait: slow(wait), None))
    timer = module.progress.timer
    assert list(timer.waits) == [0.5, 1.5] and list(timer.durations) == [2.5, 3.5]
    assert module.progress.seconds == 6.0 and timer.data_wait_fraction() == pytest.approx(2 / 6)


def test_clipping_shortens_the_step():
    model = Line()
    module, batches = training(model, TARGETS, clip_norm=0.01)
    before = torch.stack(list(model.parameters())).detach().clone()
    module.training_step(batches)
    moved = (torch.stack(list(model.parameters())).detach() - before).norm().item()
    assert moved == pytest.approx(0.1 * 0.01, rel=1e-3) and module.progress.gradient_norm > 0.01


def test_a_gradient_that_is_no_number_is_not_followed():
    model = Line(shape=lambda x: (x * x).sqrt())  # at zero the loss is 0 and its slope infinity times 0
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    module, batches = training(model, TARGETS)
    module.training_step(batches)
    assert module.progress.diverged == "the gradient norm was nan at step 1" and module.progress.step == 0
    assert all(parameter.item() == 0.0 for parameter in model.parameters())


def test_a_term_of_the_loss_that_is_no_number_is_not_followed():
    """Also where the likelihood is one."""

    class Broken(Line):
        def forward(self, batch):
            loss, nll = super().forward(batch)
            return loss + math.inf, nll

    module, batches = training(Broken(), TARGETS)
    module.training_step(batches)
    assert module.progress.diverged == "the loss was inf at step 1" and module.progress.step == 0
    assert module.model.weight.item() == 1.0


def test_nothing_is_tried_again_after_a_divergence():
    """Though there is nothing else to do for long."""

    class Breaking(Line):
        def forward(self, batch):
            seen.append(batch)
            loss, nll = super().forward(batch)
            return loss * (math.nan if len(seen) == 3 else 1.0), nll

    seen = []
    module, batches = training(Breaking(), TARGETS)
    module.agenda = Agenda(steps=100, early_step=50, log_every=90, evaluate_every=None, checkpoint_every=None)
    module.training_step(batches)
    module.training_step(batches)
    assert len(seen) == 3 and module.progress.diverged == "the loss was nan at step 3"


def test_a_batch_without_targets_has_no_nats():
    module, _ = training(Line(), TARGETS)
    loss, _, _ = module._all_reduce_step(torch.zeros(3, dtype=torch.float64), torch.tensor(0.0))
    assert loss == 0.0


def test_a_group_has_its_own_rate_for_its_part_of_the_steps():
    """Of 100 steps the first two."""
    group = {"parameters": "bias", "lr_multiplier": 0.5, "until_fraction": 0.02}
    module, batches = training(Line(), TARGETS, parameter_groups=[group])
    found = []
    for _ in range(4):
        module._step(batches)
        found.append(sorted(group["lr"] for group in module.optimizer.param_groups))
    assert found == [[0.05, 0.1]] * 2 + [[0.0, 0.1]] * 2


def test_steps_are_taken_up_to_the_next_thing_to_do():
    module, batches = training(Line(), TARGETS)
    module.agenda = Agenda(steps=100, early_step=50, log_every=7, evaluate_every=None, checkpoint_every=10)
    stops = []
    for _ in range(6):
        module.training_step(batches)
        stops.append(module.progress.step)
    assert stops == [1, 7, 10, 14, 20, 21]


def test_a_request_ends_the_stretch():
    module, batches = training(Line(), TARGETS)
    module.agenda = Agenda(steps=100, early_step=50, log_every=90, evaluate_every=None, checkpoint_every=None)
    module.progress.step = 1
    module.stop_or_pause_requests = lambda: (False, module.progress.step == 4)
    module.training_step(batches)
    assert module.progress.step == 5 and module.requests_of_any == (False, True)


def test_another_runs_checkpoint_is_refused_by_its_keys():
    module, _ = training(Line(), TARGETS, mark={"identity": "a", "config": {"norm": "rms", "seed": 0}})
    checkpoint = {}
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
    module.mark = {"identity": "b", "config": {"norm": "layer", "seed": 0}}
    with pytest.raises(UserError, match="norm was rms, is layer"):
        module.on_load_checkpoint(checkpoint)
    with pytest.raises(UserError, match="a run with a different configuration"):
        module.on_load_checkpoint({})


def test_dropout_is_a_function_of_seed_step_and_slice():
    def draw(*key):
        seed_dropout(*key, torch.device("cpu"))
        return torch.rand(4).tolist()

    assert draw(0, 3, 1) == draw(0, 3, 1)
    assert len({tuple(draw(seed, step, index)) for seed in (0, 1) for step in (0, 1, 11) for index in (0, 1, 11)}) == 18


def test_dropout_on_a_gpu_is_seeded_too(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    for step in (3, 4):
        seed_dropout(0, step, 1, torch.device("cuda"))
        assert seeds.pop() == torch.initial_seed()
    seed_dropout(0, 3, 1, torch.device("cpu"))
    assert not seeds


def test_what_a_step_draws_follows_from_its_number_alone():
    """Whatever was drawn before it, in however many steps the run came there; each micro-batch draws its own."""

    class Drawing(Line):
        def forward(self, batch):
            drawn.append(torch.rand(()).item())
            return super().forward(batch)

    def draws(first, steps, **options):
        drawn.clear()
        module, batches = training(Drawing(), TARGETS, Share(4, 1, 2), **options)
        module.progress.step = first
        for _ in range(steps):
            torch.rand(7)
            module._step(batches)
        return list(drawn)

    drawn = []
    whole = draws(0, 4)
    assert len(set(whole)) == 8 and draws(2, 2) == whole[4:]
    assert not set(draws(0, 4, dropout_seed=1)) & set(whole)


def test_ranks_and_micro_batches_together_are_the_batch():
    for ranks, accumulation in ((1, 4), (2, 2), (4, 1)):
        shared = Share(8, ranks, accumulation)
        assert [index for rank in range(ranks) for index in shared.slices(rank)] == list(range(shared.count))


def test_numbers_of_a_step_are_those_of_all_processes(tmp_path):
    """Two real ones: nats and targets are added up before they are divided; a request of one is a request of all."""
    sums = ([8.0, 4.0, 3.0], [1.0, 2.0, 5.0])  # nats, targets, training losses of two slices each
    requests = ((True, False), (False, False))

    def work(rank):
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/all", rank=rank, world_size=2)
        module, _ = training(Line(), TARGETS, Share(4, 2, 2))
        module.is_alone, module._trainer = False, types.SimpleNamespace(world_size=2)
        module.stop_or_pause_requests = lambda: requests[rank]
        found = module._all_reduce_step(torch.tensor(sums[rank], dtype=torch.float64), torch.tensor(7.0))
        (tmp_path / str(rank)).write_text(f"{found} {module.requests_of_any}")

    children = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    for rank in (0, 1):
        assert (tmp_path / str(rank)).read_text() == f"{(9 / 6, 8 / 4, 7.0)} (True, False)"


def test_the_held_out_loss_counts_tokens_and_bytes():
    batches = [
        {"targets": torch.tensor([[1, 2], [3, 0]]), "weights": torch.tensor([[1.0, 1.0], [0.5, 0.0]])},
        {"targets": torch.tensor([[2, 2]])},
    ]
    model = Line(shape=lambda x: x)  # nll = target + 0.5
    token_bytes = torch.tensor([9, 1, 2, 0])
    found = heldout_loss(model, batches, token_bytes, torch.device("cpu"))
    assert found.tokens == 5 and found.bytes == 1 + 2 + 0 + 2 + 2
    assert found.loss == pytest.approx((1 + 2 + 3 + 2 + 2) / 5 + 0.5)
    assert found.bits_per_byte == pytest.approx(found.loss * 5 / 0.6931471805599453 / 7)
    assert model.training


def test_the_held_out_loss_of_targets_that_stand_for_no_text_has_no_bits_per_byte():
    found = heldout_loss(Line(), [{"targets": torch.tensor([[0]])}], torch.tensor([0]), torch.device("cpu"))
    assert found.bits_per_byte is None


def test_step_times_leave_out_the_warm_up_and_what_is_skipped(monkeypatch):
    clock = iter([0.0, 10.0, 11.0, 12.0, 20.0, 20.5])
    from ablate.training import progress

    monkeypatch.setattr(progress, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    timer = StepTimer()
    timer.start(warm_up=1)
    timer.tick(1.0)  # 10 s of warm-up
    timer.tick(0.1)
    timer.tick(0.1)
    timer.skip()  # 8 s of evaluation
    timer.tick(0.05)
    assert list(timer.durations) == [1.0, 1.0, 0.5]
    assert timer.steps_per_second()["median"] == 1.0 and timer.steps_per_second()["p75"] == pytest.approx(1 / 0.75)
    assert timer.steps_per_second()["p25"] == 1.0
    assert timer.data_wait_fraction() == pytest.approx(0.25 / 2.5)
    assert StepTimer().steps_per_second() == {"median": None, "p25": None, "p75": None}


@pytest.mark.parametrize(
    ("seconds", "quartiles"),
    [
        ([1.0, 2.0, 4.0, 8.0, 16.0], {"p25": 1 / 8, "median": 1 / 4, "p75": 1 / 2}),
        ([16.0, 1.0, 8.0, 2.0, 4.0], {"p25": 1 / 8, "median": 1 / 4, "p75": 1 / 2}),  # in whatever order
        ([1.0, 2.0], {"p25": 1 / 1.75, "median": 1 / 1.5, "p75": 1 / 1.25}),
        ([4.0], {"p25": 1 / 4, "median": 1 / 4, "p75": 1 / 4}),
    ],
)
def test_quartiles_of_the_speed(seconds, quartiles):
    """A quarter of the steps is as slow as p25 or slower: the third quartile of the durations."""
    timer = StepTimer()
    timer.durations.extend(seconds)
    assert timer.steps_per_second() == pytest.approx(quartiles)


@pytest.mark.parametrize(
    ("device", "bf16", "fp32"),
    [
        ("NVIDIA H200", 989, 494),
        ("NVIDIA H200 NVL", 835, 417),
        ("NVIDIA H100 80GB HBM3", 989, 494),
        ("NVIDIA H100 PCIe", 756, 378),
        ("NVIDIA A100-SXM4-80GB", 312, 156),
        ("NVIDIA L40S", 362, 183),
        ("NVIDIA L4", 121, 60),
        ("NVIDIA A10", 125, 62.5),
        ("NVIDIA A40", 149.7, 74.8),
        ("NVIDIA GeForce RTX 3090", 71, 35.6),
        *((name, None, None) for name in ("NVIDIA A10G", "NVIDIA A400", "NVIDIA GeForce RTX 3090 Ti")),
        ("NVIDIA GeForce RTX 4090", 165, 82.6),
        *((name, None, None) for name in ("AMD EPYC", "GPU X", "NVIDIA RTX A1000", "NVIDIA GeForce RTX 4090 D")),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None),
    ],
)
def test_utilisation_is_told_of_known_devices_only(device, bf16, fp32):
    """Against the peaks of the data sheets, in TFLOP/s."""
    from ablate.training.environment import mfu

    for precision, peak in (("bf16", bf16), ("fp32", fp32)):
        expected = None if peak is None else pytest.approx(100 / (2 * peak))
        assert mfu(100e12, device, precision, devices=2) == expected


@pytest.mark.parametrize(
    ("step", "speed", "line"),
    [
        (120, 12.34, "step 120/200  loss 5.4321  12.3 steps/s  0:06 left"),
        (1, 0.05, "step 1/200  loss 5.4321  0.05 steps/s  1:06:20 left"),
        (200, 12.34, "step 200/200  loss 5.4321  12.3 steps/s  0:00 left"),
        (1, None, "step 1/200  loss 5.4321"),
    ],
)
def test_a_line_of_progress_says_what_is_left(step, speed, line):
    from ablate.training.metrics import progress_line

    assert progress_line(step, 200, 5.43214, speed) == line


def test_the_processor_is_named_and_its_cores_counted():
    from ablate.training.environment import hardware

    found = hardware("cpu", 2)
    assert found.device == found.processor and isinstance(found.processor, str) and found.processor.strip()
    assert (found.kind, found.devices, found.cores) == ("cpu", 2, os.cpu_count())


def test_the_peak_of_memory_is_what_one_training_adds():
    """Neither what the process held before, nor what another model took and gave back; in a process of its own."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("only Linux forgets")
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


PEAK = """
import torch

from ablate.training.environment import PeakMemory

cpu = torch.device("cpu")
held = torch.ones(60_000_000)  # 240 MB that stay
freed = [torch.ones(20_000) for _ in range(1000)]  # 80 MB in blocks that glibc keeps
del freed
memory = PeakMemory("cpu")
memory.note(cpu)
assert memory.bytes < 20e6
block = torch.ones(25_000_000)
del block
memory.note(cpu)
assert 95e6 < memory.bytes < 130e6
memory.forget()
another = torch.ones(12_500_000)
memory.note(cpu)
assert 95e6 < memory.bytes < 130e6 and len(held) > len(another)
beside = PeakMemory("cpu")
beside.note(cpu)
assert beside.bytes < 20e6
"""
