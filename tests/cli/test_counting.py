"""Counting a configuration without what only compiling needs."""

import subprocess
import sys


def test_counting_needs_no_compiler_and_gives_the_same_without_it():
    code = """
import sys
from ablate.config import compose
from ablate.cost import cost, without_compiler
cfg = compose(["activation=geglu", "feedforward=switch", "norm=scalenorm"])
with without_compiler():
    found = cost(cfg)
imported = [name in sys.modules for name in ("torch._dynamo", "torch._inductor")]
print(*imported, found == cost(cfg))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False", "True"], done.stderr
