"""Counting a configuration without what only compiling and symbolic shapes need."""

import subprocess
import sys


def test_counting_needs_neither_compiler_nor_symbolic_shapes_and_gives_the_same_without_it():
    code = """
import sys
from importlib import import_module
from ablate.config import compose
from ablate.cost import cost
from ablate.torch_stand_ins import counting_only
cfg = compose(["activation=geglu", "feedforward=switch", "norm=scalenorm"])
with counting_only():
    found = cost(cfg)
unwanted = {"torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "sympy"}
print(not unwanted.isdisjoint(sys.modules), found == cost(cfg), import_module("sympy").S(1) + 1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True", "2"], done.stderr


def test_a_stand_in_gives_way_to_the_module_where_more_is_asked_of_it():
    code = """
import sys
import torch
from ablate.torch_stand_ins import DEFINED, StandIn, counting_only
name = "torch.fx.experimental.symbolic_shapes"
with counting_only():
    from torch.fx.experimental.symbolic_shapes import ShapeEnv, sym_eq
    print(ShapeEnv.__name__, isinstance(sys.modules[name], StandIn))
shapes = sys.modules[name]
print([one for one in DEFINED[name] if not callable(getattr(shapes, one, None))], sys.modules["sympy"].Integer(2))
for sizes in ([2, 3], (2, 3)), ([2], [3]), ([2], [2, 2]), (2, 2):
    assert DEFINED[name]["sym_eq"](*sizes) == shapes.sym_eq(*sizes)
for conditions in (True,), (True, False), (False, False), (True, True):
    for join in ("sym_and", "sym_or"):
        assert DEFINED[name][join](*conditions) == getattr(shapes, join)(*conditions)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["ShapeEnv False", "[] 2"], done.stderr
