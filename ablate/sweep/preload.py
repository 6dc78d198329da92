"""What every run would do first, done once in the fork server: imports, option files, the machinery of counting costs.

Nothing here may start a thread, which a fork would lose, or touch what a run's result depends on.
"""

import datasets  # noqa: F401

import ablate.data.corpus
import ablate.training.fit
import ablate.training.lightning  # noqa: F401
from ablate.config import compose
from ablate.cost import cost

cost(compose([]))
