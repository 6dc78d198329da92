"""The forms of models in `transformers`: a table for each class, of its config and of its tensors.

    form = forms.of(config)                         config: what config.json holds, or an object of transformers
    cfg = compose(form.overrides(config))
    form.load(build_model(cfg), state_dict)
    config, state_dict = form.export(cfg, model)

A model of ours may differ from a class in how it is written down: rotary pairs that are neighbours instead of halves, a
scale of the scores other than K^-0.5, an offset in the norm. Its weights are converted.

A table (`ablate/weights/tables/*.yaml`) says

    class, model_type    of transformers
    preset               whose options the class has
    config               its keys, and what they are here: a key of ours, or one of a few named readings (`as`); `else`
                         is its value where it is missing; a key that begins with = is arithmetic that has to hold
    fixed                values that its keys must have
    weights              its tensors, and the parts of ours that they are (`ablate.weights.parameters`); a list with one
                         of the ways to lay them out (`as`, `ablate.weights.reshapings`); * is any layer; a name
                         without an ending stands for weight and bias
    gated                what is there instead where the feed-forward has a gate
    tied                 the tensor that is lm_head.weight, too, where the head shares the table
    ignored              patterns of tensors that old files have and that mean nothing
    score_scale, rotary, offset
                         how it is written down: the scale of its scores, where the pairs of rotary channels are, and
                         what its norms add to their gains
    like                 another class, whose config, weights and rest it has, but for what it says itself
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from ablate import yaml_text
from ablate.config import resolved
from ablate.errors import UserError, nearest
from ablate.model.build import Model
from ablate.weights import form_config, form_weights, names

TABLES = Path(__file__).parent / "tables"
CONFIG, WEIGHTS = "config", "weights"


@dataclass(frozen=True)
class Form:
    """One class of `transformers`."""

    class_name: str
    model_type: str
    preset: str
    keys: Mapping[str, Any]
    tensors: Mapping[str, Any]
    tied: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    gated: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    score_scale: float | None = None
    rotary: str = form_weights.HALVES
    offset: float = 0.0

    def overrides(self, config: Any) -> list[str]:
        """The overrides that make the model which `config` describes; UserError for what no option of ours does."""
        given = as_mapping(config)
        if (kind := given.get("model_type")) != self.model_type:
            raise UserError(f"model_type={kind}: {self.class_name} is of model_type={self.model_type}")
        return form_config.overrides(given, self.preset, self.keys, self.fixed)

    def config(self, cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
        """What config.json holds of the model built from `cfg`, but for the ids of its special tokens.

        Raises UserError where the class has no such model.
        """
        ours = resolved(cfg) if isinstance(cfg, DictConfig) else cfg
        found = form_config.theirs(ours, self.keys, self.fixed, self.class_name)
        found = {"model_type": self.model_type, "architectures": [self.class_name], **found}
        form_config.check_same(self.overrides(found), ours, self.class_name)
        return found

    def load(self, model: Model, state_dict: Mapping[str, Tensor]) -> None:
        """Copy the weights of an instance of the class into `model`; nothing is changed where one does not fit.

        Raises UserError, in one line: naming the key for weights that are missing, not expected or of another shape.
        """
        names.load(self.weights(model), state_dict, self.ignored)

    def export(self, cfg: DictConfig | Mapping[str, Any], model: Model) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The config and the state dict, copies, of the instance of the class that equals `model`, built from `cfg`.

        Raises UserError where there is none.
        """
        return self.config(cfg), names.exported(self.weights(model))

    def weights(self, model: Model) -> names.Names:
        """Each tensor of the class by its name, and the parameters of `model` that it is."""
        style = form_weights.Style(self.score_scale, self.rotary, self.offset)
        found = form_weights.named(model, self.tensors, self.gated, self.tied, style)
        names.check_complete(model, found, self.class_name)
        return found


def of(config: Any) -> Form:
    """The form of the model that `config` describes, by its model_type; UserError for one that is not known."""
    kind = as_mapping(config).get("model_type")
    known = {form.model_type: form for form in every()}
    if kind not in known:
        raise UserError(f"model_type={kind}: must be one of {', '.join(known)}{nearest(str(kind), known)}")
    return known[kind]


def called(class_name: str) -> Form:
    """The form of a class of `transformers`; UserError for one that is not known."""
    known = {form.class_name: form for form in every()}
    if class_name not in known:
        raise UserError(f"{class_name}: must be one of {', '.join(known)}{nearest(class_name, known)}")
    return known[class_name]


def every() -> Iterator[Form]:
    """All forms, in the order of their tables."""
    return (_form(path.stem) for path in sorted(TABLES.glob("*.yaml")))


def as_mapping(config: Any) -> Mapping[str, Any]:
    """A config of `transformers`, given as an object or as what its config.json holds."""
    return config if isinstance(config, Mapping) else config.to_dict()


@cache
def _form(name: str) -> Form:
    table = _table(name)
    return Form(
        class_name=table["class"],
        model_type=table["model_type"],
        preset=table["preset"],
        keys=table[CONFIG],
        tensors=table[WEIGHTS],
        fixed=table.get("fixed", {}),
        gated=table.get("gated", {}),
        tied=table["tied"],
        ignored=tuple(table.get("ignored", ())),
        score_scale=table.get("score_scale"),
        rotary=table.get("rotary", form_weights.HALVES),
        offset=float(table.get("offset", 0)),
    )


def _table(name: str) -> dict[str, Any]:
    """A table with what it has from the one that it is like; a key of null is not taken from there."""
    own = yaml_text.parse((TABLES / f"{name}.yaml").read_bytes(), yaml_text.OptionLoader)
    if (other := own.pop("like", None)) is None:
        return dict(own)
    merged = {**_table(other), **own}
    for part in (CONFIG, WEIGHTS):
        both = {**_table(other)[part], **own.get(part, {})}
        merged[part] = {key: value for key, value in both.items() if value is not None}
    return merged


LLAMA, T5 = called("LlamaForCausalLM"), called("T5ForConditionalGeneration")
