"""The keys that the class of an option takes."""

from __future__ import annotations

import inspect
from typing import Any

from ablate.fine_tuning.evaluation import FineTuning, Settings


def keys_of(made: Any) -> set[str]:
    """The arguments of a function, or of a class and those above it; of a fine-tuning, its settings as well."""
    if not inspect.isclass(made):
        return set(inspect.signature(made).parameters)
    made_by = [one.__init__ for one in inspect.getmro(made) if one.__init__ is not object.__init__]
    keys = {key for init in made_by for key in inspect.signature(init).parameters}
    return keys | (set(Settings.__dataclass_fields__) if issubclass(made, FineTuning) else set())
