"""Several options in one slot, chosen by layer, by stack, or by what they act on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ablate.errors import UserError, nearest
from ablate.model.contract import Place


class Choice:
    """Several options in one slot: `choose` says which of them fills it at a place."""

    holds_options = True  # so that it is made at once, and the options in it are factories

    def choose(self, place: Place) -> Callable[..., nn.Module]:
        """The option at this place."""
        raise NotImplementedError


class ByLayer(Choice):
    """One slot, filled differently by layer: layer i has the option that ``pattern[i % len(pattern)]`` names.

    Raises UserError, when a model is built, for an empty pattern and for a name that is not among `options`.
    """

    def __init__(self, pattern: Sequence[str], **options: Callable[..., nn.Module]):
        self.pattern, self.options = list(pattern), options

    def choose(self, place: Place) -> Callable[..., nn.Module]:
        """The option of the layer at `place`."""
        if not self.pattern:
            raise UserError("a pattern by layer needs at least one name")
        name = self.pattern[place.layer % len(self.pattern)]
        if name not in self.options:
            raise UserError(f"pattern: no option {name!r} among {', '.join(self.options)}{nearest(name, self.options)}")
        return self.options[name]

    def placed(self) -> tuple[dict[str, Callable[..., nn.Module]], str]:
        """The options that some layer of a model must use, by name, and the key that determines which."""
        return {name: self.options[name] for name in self.pattern if name in self.options}, "pattern"


class FromLayer(Choice):
    """One slot, filled by ``before`` in the first ``layer`` layers and by ``behind`` in the others (Qwen 2)."""

    def __init__(self, layer: int, before: Callable[..., nn.Module], behind: Callable[..., nn.Module]):
        self.layer, self.before, self.behind = layer, before, behind

    def choose(self, place: Place) -> Callable[..., nn.Module]:
        return self.before if place.layer < self.layer else self.behind

    def placed(self) -> tuple[dict[str, Callable[..., nn.Module]], str]:
        """The options that some layer of a model must use, by name, and the key that determines which."""
        return {"before": self.before, "behind": self.behind}, "layer"


class AtLayers(Choice):
    """One slot, filled differently at some layers: at ``layers`` of the ``stacks`` by ``there``, else by ``elsewhere``.

    Layers are counted from 0 at the front, from -1 at the end.
    """

    def __init__(
        self,
        stacks: Sequence[str],
        layers: Sequence[int],
        there: Callable[..., nn.Module],
        elsewhere: Callable[..., nn.Module],
    ):
        self.stacks, self.layers, self.there, self.elsewhere = list(stacks), list(layers), there, elsewhere

    def choose(self, place: Place) -> Callable[..., nn.Module]:
        at = (place.layer, place.layer - place.n_layers)
        return self.there if place.stack in self.stacks and not set(at).isdisjoint(self.layers) else self.elsewhere

    def placed(self) -> tuple[dict[str, Callable[..., nn.Module]], str]:
        """The options that some layer of a model must use, by name, and the key that determines which."""
        return {"there": self.there}, "stacks or layers"


class ByStack(Choice):
    """One slot, filled differently by stack."""

    def __init__(self, encoder: Callable[..., nn.Module], decoder: Callable[..., nn.Module]):
        self.options = {"encoder": encoder, "decoder": decoder}

    def choose(self, place: Place) -> Callable[..., nn.Module]:
        return self.options[place.stack]


class InEncoder(ByStack):
    """The same for what is made for encoders: a model without one is refused, which would have nothing of it."""

    def placed(self) -> tuple[dict[str, Callable[..., nn.Module]], str]:
        """The options that some layer of a model must use, by name; no key determines which."""
        return {"encoder": self.options["encoder"]}, ""


class AtInput(Choice):
    """Two positions at once: ``input`` is added to the input of a stack, ``attention`` acts in its layers."""

    def __init__(self, input: Callable[..., nn.Module], attention: Callable[..., nn.Module]):
        self.input, self.attention = input, attention

    def choose(self, place: Place) -> Callable[..., nn.Module]:
        return self.attention if place.sublayer else self.input
