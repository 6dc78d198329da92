"""Lightning, imported without what it never uses here; everything that trains takes its classes from this module.

Lightning imports torchmetrics whole, and that imports scipy.signal, transformers and matplotlib where they are
installed, for metrics of audio, of images and of translations and for their plots. It takes longer than everything
else that a run does before its first step. While Lightning is imported these packages are therefore reported as
absent, as torchmetrics allows; they are not touched otherwise. Code that needs one of those metrics imports
torchmetrics before this module.

torch's compiler, which Lightning imports too, waits until something is compiled: see `ablate.lazy_torch`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

from lightning_utilities.core import imports
from packaging.requirements import Requirement

from ablate import lazy_torch

OPTIONAL = frozenset({"scipy", "transformers", "matplotlib"})  # packages of torchmetrics that Lightning does not need


@contextlib.contextmanager
def reported_absent(packages: frozenset[str]) -> Iterator[None]:
    """While entered, lightning_utilities says of these packages that they are not installed."""
    available, check = imports.package_available, imports.RequirementCache._check_requirement

    def package_available(package_name: str) -> bool:
        return package_name not in packages and available(package_name)

    def check_requirement(self: imports.RequirementCache) -> None:
        name = Requirement(self.requirement).name if self.requirement else ""
        if name in packages:
            self.available, self.message = False, f"{name} is not loaded with Lightning; import torchmetrics first"
        else:
            check(self)

    library, cache = cast(Any, imports), cast(Any, imports.RequirementCache)  # whose methods are replaced for a while
    library.package_available, cache._check_requirement = package_available, check_requirement
    try:
        yield
    finally:
        library.package_available, cache._check_requirement = available, check


lazy_torch.install()
with reported_absent(OPTIONAL):
    import lightning.pytorch as L
    from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
    from lightning.pytorch.plugins.io import CheckpointIO
    from lightning.pytorch.strategies import DDPStrategy

__all__ = ["CheckpointIO", "DDPStrategy", "L", "LightningEnvironment", "TorchElasticEnvironment"]
