"""Everything that a run imports, imported once in the fork server; it only has to stand here to be paid for."""

import datasets  # noqa: F401
import lightning.pytorch  # noqa: F401
import numpy  # noqa: F401
import torch  # noqa: F401

import ablate.train  # noqa: F401
