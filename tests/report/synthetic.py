"""Made-up sweeps on disk: run folders as training leaves them, without training."""

import hashlib
import json
import math
import shlex
from pathlib import Path

import numpy as np
import yaml

from ablate.config.identity import SCHEMA
from ablate.config.overrides import merge
from ablate.report.analysis.verdicts import Row, Verdicts
from ablate.run.folder import run_path
from ablate.statistics.comparison import Comparison

SHA = "d" * 64
SETTINGS = {
    "topology": {"_target_": "ablate.model.topology.EncoderDecoder"},
    "objective": {
        "_target_": "ablate.data.objective.SpanCorruption",
        "length": 64,
        "noise_density": 0.15,
        "mean_span": 3.0,
    },
    "tokenizer": {"_target_": "ablate.data.tokenizer.Trained", "kind": "bpe", "vocab_size": 2048},
    "evaluation": {"tokens": 65536, "seed": 20210611},
    "shape": {
        "d_model": 48,
        "n_layers": 6,
        "n_heads": 6,
        "head_dim": 8,
        "d_ff": 192,
        "vocab_size": 2048,
        "length": 64,
        "steps": 200,
    },
    "optimizer": {"_target_": "ablate.training.adafactor.Adafactor"},
    "schedule": {"_target_": "ablate.training.schedule.InverseSquareRoot", "peak": 0.01},
    "early_fraction": 0.125,
    "trainer": {"precision": "fp32", "compile": "none", "threads": 1, "global_batch_tokens": 2048, "steps": 200},
}

# label: (section, overrides, difference of the final loss, noise sd, speed, FLOPs)
ROWS = {
    "RMS Norm": ("norm", ["norm=rmsnorm"], -0.004, 0.008, 1.06, 1.0),
    "No norm": ("norm", ["norm=none"], 0.31, 0.06, 1.1, 1.0),
    "Post-norm": ("norm", ["block.placement=post"], 0.035, 0.008, 1.0, 1.0),
    "GeLU": ("activation", ["activation=gelu"], -0.006, 0.008, 0.99, 1.0),
    "SwiGLU": ("activation", ["activation=swiglu"], -0.042, 0.008, 0.95, 1.0),
    "GeGLU": ("activation", ["activation=geglu"], -0.038, 0.008, 0.94, 1.0),
    "LiGLU": ("activation", ["activation=liglu"], -0.03, 0.008, 0.96, 1.0),
    "SeLU": ("activation", ["activation=selu"], 0.05, 0.009, 1.0, 1.0),
    "RoPE": ("position", ["position=rope"], 0.002, 0.008, 0.9, 1.0),
    "No position": ("position", ["position=none"], 0.12, 0.01, 1.08, 0.97),
    "Parallel block": ("block", ["block=parallel"], 0.012, 0.008, 1.12, 1.0),
    "A/A (other initial values)": ("block", ["seed.init=${plus:1000,seed.base}"], 0.0, 0.008, 1.0, 1.0),
}  # fmt: skip


def identity(overrides, seed):
    """As of a run with these overrides: the same for the same ones in another order, another one for another seed."""
    return hashlib.sha256(repr((sorted(overrides), seed)).encode()).hexdigest()[:16]


class Maker:
    """Writes the folders of one sweep under `root`: runs/, sweeps/, reports/."""

    def __init__(self, root, name="made-up", *, data="c4-like", baseline="Vanilla Transformer", steps=200):
        self.root, self.name, self.data, self.baseline, self.steps = Path(root), name, data, baseline, steps
        self.runs, self.sweeps, self.reports = (self.root / part for part in ("runs", "sweeps", "reports"))
        self.sections, self.reference, self.notes, self.same_within = {}, None, "", None
        self.question = "Which change is worth having?"
        self.seeds = {"baseline": 5, "rows": 3}
        self.seed_effects = np.random.default_rng(7).normal(0, 0.012, 100)

    def add(self, label, section, overrides, **settings):
        row = {"overrides": list(overrides), **settings} if settings else list(overrides)
        self.sections.setdefault(section, {})[label] = row

    def write_sweep(self):
        self.sweeps.mkdir(parents=True, exist_ok=True)
        content = {"question": self.question, "base": ["shape=nano", "data=local"], "baseline": self.baseline}
        content |= {"sections": self.sections, "seeds": self.seeds, "early_fraction": 0.125, "notes": self.notes}
        content |= {key: value for key in ("reference", "same_within") if (value := getattr(self, key))}
        path = self.sweeps / f"{self.name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    def run(
        self,
        label,
        seed,
        overrides=(),
        *,
        final=None,
        early=None,
        status="done",
        settings=None,
        sha=SHA,
        extra=(),
        speed=1.0,
        flops=1.0,
        rounds=None,
        **changes,
    ):
        """Write one run's folder; returns its path."""
        path = run_path(self.runs, self.name, label, seed)
        path.mkdir(parents=True, exist_ok=True)
        given = [f"sweep={self.name}", f"row='{label}'", f"seed.base={seed}"]
        final = 5.0 if final is None else float(final)
        early = final + 1.1 if early is None else float(early)
        bits = 1 / math.log(2) / 3.9
        record = {
            "schema": 1,
            "sweep": self.name,
            "row": label,
            "seed": seed,
            "status": status,
            "reason": "",
            "overrides": merge(["shape=nano", "data=local"], extra, overrides, given),
            "command": shlex.join(["ablate", "train", f"sweep={self.name}", f"row={label}", f"seed={seed}", *extra]),
            "identity": identity([*extra, *overrides], seed),
            "versions": {"ablate": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
            "git": {"sha": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "hardware": {"device": "A processor", "kind": "cpu", "devices": 1, "processor": "A processor", "cores": 2},
            "data": {
                "name": self.data,
                "sha256": sha,
                "tokens": 6_100_000,
                "validation_tokens": 310_000,
                "vocab_size": 2048,
            },
            "parameters": {"total": 640_000, "non_embedding": 541_000, "active": 640_000},
            "ops_paper": 2.1e9,
            "flops_per_step": 7.4e9 * flops,
            "tokens_per_step": 2048,
            "steps_per_second": {
                "median": 14.0 * speed,
                "p25": 13.1 * speed,
                "p75": 14.4 * speed,
                "exclusive": 19.0 * speed if seed == 0 else None,
            },
            "tokens_per_second": 14.0 * speed * 2048,
            "mfu": None,
            "peak_memory_bytes": 611_000_000,
            "data_wait_fraction": 0.004,
            "loss": {
                "early": early,
                "final": final,
                "early_step": self.steps // 8,
                "final_step": self.steps,
                "bits_per_byte": final * bits,
                "early_bits_per_byte": early * bits,
                "tokens": 14336,
                "bytes": 30712,
            },
            "downstream": {},
            "step": self.steps,
            "seconds": 15.5,
            "attempts": 1,
            "tags": [],
            "started": "2026-01-01T00:00:00Z",
            "finished": "2026-01-01T00:00:16Z",
        }
        if status != "done":
            record["loss"] = {
                "early": early if status == "diverged" else None,
                "final": None,
                "early_step": self.steps // 8,
                "final_step": self.steps,
                "bits_per_byte": None,
            }
        if rounds and seed == 0:
            timing = {"began": "2026-01-01T01:00:00Z", "rounds": rounds, "other_load": [0.1] * len(rounds)}
            record["steps_per_second"]["exclusive"] = float(np.median(rounds))
            record["steps_per_second"]["timing"] = timing | {"load_before": 0.2}
        record |= changes
        (path / "record.json").write_text(json.dumps(record))
        (path / "config.yaml").write_text(yaml.safe_dump(SETTINGS | (settings or {})))
        self._write_metrics(path, seed, final, early, status)
        return path

    def _write_metrics(self, path, seed, final, early, status):
        noise = np.random.default_rng([seed, len(str(path.parent.name))])
        lines = ["step,time,loss,learning_rate,grad_norm,kind,bits_per_byte"]
        last = self.steps if status == "done" else self.steps * 2 // 5
        for step in range(10, last + 1, 10):
            loss = final + 2.6 * (math.exp(-step / (self.steps / 6)) - math.exp(-6)) + float(noise.normal(0, 0.03))
            lines.append(f"{step},{step / 14:.3f},{loss!r},0.01,1.0,train,")
        lines.append(f"{self.steps // 8},1.0,{early!r},,,validation,2.1")
        if status == "diverged":
            lines.append(f"{last + 10},9.9,nan,0.01,inf,train,")
        elif status == "done":
            lines.append(f"{self.steps},9.9,{final!r},,,validation,1.85")
        (path / "metrics.csv").write_text("\n".join(lines) + "\n")


def small_sweep(root, **options):
    """A dozen rows and what goes wrong: a diverged row, a failed run, a row on other data, one run under way."""
    maker = Maker(root, **options)
    maker.reference = "narang2021"
    maker.question = "Which of the best-known changes to a Transformer show at all?"
    noise = np.random.default_rng(3)

    def final(seed, difference, sd):
        return float(5.0 + maker.seed_effects[seed] + difference + noise.normal(0, sd))

    for seed in range(5):
        maker.run(maker.baseline, seed, final=final(seed, 0.0, 0.008))
    for label, (section, overrides, difference, sd, speed, flops) in ROWS.items():
        maker.add(label, section, overrides)
        for seed in range(3):
            loss = final(seed, difference, sd)
            maker.run(label, seed, overrides, final=loss, early=loss + 1.1 + 0.5 * difference, speed=speed, flops=flops)
    maker.add("No norm, deep", "norm", ["norm=none", "stack.encoder.n_layers=12"])
    for seed in range(3):
        maker.run(
            "No norm, deep",
            seed,
            ["norm=none", "stack.encoder.n_layers=12"],
            status="diverged" if seed else "done",
            reason="the loss is nan at step 84" if seed else "",
            final=5.4,
            flops=1.5,
        )
    maker.add("Sigmoid", "activation", ["activation=sigmoid"])
    for seed in range(3):
        failed = (
            {
                "status": "failed",
                "reason": "out of memory (can't allocate memory); a smaller trainer.micro_batch needs less",
            }
            if seed == 2
            else {}
        )
        maker.run("Sigmoid", seed, ["activation=sigmoid"], final=final(seed, 0.09, 0.01), **failed)
    maker.add("Larger vocabulary", "block", ["tokenizer.vocab_size=4096"])
    for seed in range(3):
        maker.run(
            "Larger vocabulary",
            seed,
            ["tokenizer.vocab_size=4096"],
            final=final(seed, 0.4, 0.01),
            sha="e" * 64,
            settings={"tokenizer": SETTINGS["tokenizer"] | {"vocab_size": 4096}},
        )
    maker.add("Squared ReLU", "activation", ["activation=squared_relu"])
    maker.run("Squared ReLU", 0, ["activation=squared_relu"], final=final(0, -0.01, 0.008), flops=1.0)
    maker.run("Squared ReLU", 1, ["activation=squared_relu"], status="preempted", reason="SIGTERM")
    maker.write_sweep()
    return maker


def large_sweep(root, rows=42, **options):
    """130 runs in seven sections."""
    maker = Maker(root, **options)
    maker.seeds = {"baseline": 5, "rows": 3}
    noise = np.random.default_rng(11)
    for seed in range(5):
        maker.run(maker.baseline, seed, final=float(5 + maker.seed_effects[seed] + noise.normal(0, 0.008)))
    for number in range(rows):
        label, overrides = f"Variant number {number}", [f"norm.epsilon={number + 1}e-6"]
        maker.add(label, f"axis {number % 7}", overrides)
        difference = float(noise.normal(0, 0.05)) + (1.4 if number == 17 else 0)
        cost = float(np.exp(noise.normal(0, 0.2)))
        for seed in range(3):
            loss = float(5 + maker.seed_effects[seed] + difference + noise.normal(0, 0.008))
            maker.run(label, seed, overrides, final=loss, speed=1 / cost, flops=cost)
    maker.write_sweep()
    return maker


def verdicts(deltas, errors=0.01, baseline="Vanilla Transformer"):
    """Rows with given differences, final and early."""

    def row(label, delta, error):
        comparison = Comparison(seeds=3, delta=delta, error=error, own_error=error / 2**0.5)
        nothing = np.full(3, np.nan)
        return Row(
            *(
                label,
                "rows",
                (),
                3,
                3,
                0,
                0,
                0,
                0,
                np.nan,
                nothing,
                nothing,
                {"total": 1.0, "active": 1.0},
                1.0,
                1.0,
                1.0,
                1.0,
                True,
                None,
            ),
            *(1.0, 1.0, {}, {}, {}, SCHEMA),
            control=baseline,
            comparison=comparison,
            early_comparison=comparison,
            to_baseline=comparison,
            early_to_baseline=comparison,
            verdict="no difference detected",
        )

    return Verdicts(
        row(baseline, np.nan, np.nan), [row(label, delta, errors) for label, delta in deltas.items()], 0.01, 0.0
    )


def troubled_sweep(root):
    """The small sweep with two more rows: one with a damaged record, one that was run before its overrides changed."""
    maker = small_sweep(root, name="troubled")
    maker.add("RMS Norm, damaged", "norm", ["norm=rmsnorm", "dropout=0.1"])
    for seed in range(3):
        path = maker.run(
            "RMS Norm, damaged", seed, ["norm=rmsnorm", "dropout=0.1"], final=5.0 + maker.seed_effects[seed]
        )
        if seed == 1:
            (path / "record.json").write_text('{"schema": 1, "row": "RMS')
    maker.add("Multi-query", "block", ["attention=multi_query", "dropout=0.1"])
    for seed in range(3):
        maker.run("Multi-query", seed, ["attention=multi_query"])
    maker.write_sweep()
    return maker


def false_alarm_sweep(root):
    """Three rows of one section; the A/A control, which changes only seeds, differs from the baseline."""
    maker = Maker(root, name="false-alarm")
    maker.question = "What does a report say when its control fails?"
    rows = {
        "SwiGLU": (["activation=swiglu"], -0.05),
        "RMS Norm": (["norm=rmsnorm"], 0.001),
        "A/A": (["seed.init=${plus:1000,seed.base}"], 0.03),
    }
    slower = {"SwiGLU": 0.8, "RMS Norm": 0.99}
    for number, (label, (overrides, difference)) in enumerate([(maker.baseline, ([], 0.0)), *rows.items()]):
        if overrides:
            maker.add(label, "rows", overrides)
        for seed in range(3 if overrides else 5):
            noise = (seed * 3 + number * 2) % 5 / 1000
            rounds = [slower.get(label, 1.0) * (20 + (trial * 2 + number) % 5 / 5) for trial in range(6)]
            loss = 5.0 + maker.seed_effects[seed] + difference + noise
            maker.run(label, seed, overrides, final=loss, rounds=rounds)
    maker.write_sweep()
    return maker


def mixed_sweep(root):
    """What a report has to add: scores of evaluations, other versions, lost and unbegun rows, a control untested."""
    maker = Maker(root, name="mixed", data="builtin")
    maker.question = "What is said of runs that were not made alike?"
    maker.notes = "The first paragraph.\n\nThe second, with `code` and a | bar."
    maker.reference = "narang2021"

    def scores(seed, **values):
        found = {
            name: {"value": value + seed / 10, "unit": unit, "higher_is_better": unit == "accuracy", "items": 50}
            | {"source": {"evaluation": name, "hash": f"{seed % 2 if name == 'recall' else 0:016d}"}}
            for name, (value, unit) in values.items()
        }
        return {"downstream": {name: score["value"] for name, score in found.items()}, "scores": found}

    def measured(seed, better):
        noise = (seed * 3 + better * 2) % 5 / 8
        return scores(seed, recall=(60 + 2 * better + noise, "accuracy"), perplexity=(30 - better - noise / 4, "nats"))

    for seed in range(5):
        maker.run(maker.baseline, seed, final=5.0 + maker.seed_effects[seed], **measured(seed, 0))
    rows = {"GeLU": ("gelu", -0.002), "Swish": ("swish", 0.004), "ELU": ("elu", 0.02), "SwiGLU": ("swiglu", -0.04)}
    for number, (label, (activation, difference)) in enumerate(rows.items()):
        maker.add(label, "activation", [f"activation={activation}"])
        for seed in range(3):
            loss = 5.0 + maker.seed_effects[seed] + difference + (seed * 3 + number * 2) % 5 / 1000
            changes = measured(seed, 2 - number)
            if label == "ELU" and seed == 1:
                changes = {"scores_failed": {"recall": "RuntimeError: no such\ntask"}}
            if label == "Swish":
                changes["git"] = {"sha": "f" * 40, "dirty": seed == 2}
                changes["versions"] = {"ablate": "0.1.0", "python": "3.12.1", "torch": "2.12.0"}
            if label == "SwiGLU":
                changes |= {"extra": ["trainer.log_every=5"], "seconds": 4000.0}
            maker.run(label, seed, [f"activation={activation}"], final=loss, **changes)
    maker.add("GeGLU", "activation", ["activation=geglu"])
    for seed in range(3):  # all diverge before a loss is known at the end
        maker.run(
            *("GeGLU", seed, ["activation=geglu"]), status="diverged", reason=f"the loss is nan at step {70 + seed}"
        )
    maker.add("LiGLU", "activation", ["activation=liglu"])
    for seed in range(3):  # above the loss of a uniform guess
        maker.run("LiGLU", seed, ["activation=liglu"], final=9.0 + seed)
    maker.add("A/A", "control", ["seed.init=${plus:1000,seed.base}"])
    maker.run("A/A", 0, ["seed.init=${plus:1000,seed.base}"], final=5.01)
    for kind in ("Sigmoid", "SeLU", "GLU", "Softplus"):
        maker.add(kind, "to come", [f"activation={kind.lower()}"])
    maker.write_sweep()
    return maker


def lone_runs(root):
    """Runs that were started one by one: no file says what the sweep is."""
    maker = Maker(root, name="lone-runs", baseline="baseline")
    for seed in range(3):
        maker.run("baseline", seed, final=5.0 + maker.seed_effects[seed])
        maker.run("norm=rmsnorm", seed, ["norm=rmsnorm"], final=5.06 + maker.seed_effects[seed] + seed / 1000)
    maker.run("activation=swiglu", 0, ["activation=swiglu"], final=4.9)
    maker.run("activation=swiglu", 4, ["activation=swiglu"], status="diverged", reason="the loss is nan at step 84")
    return maker
