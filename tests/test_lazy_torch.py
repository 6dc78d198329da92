"""Parts of torch that are imported when they are used, and what is asked of them before."""

import subprocess
import sys

import pytest


def said(code):
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_counting_and_the_trainer_need_neither_compiler_nor_symbolic_sizes():
    """Nor do they count otherwise where these are there."""
    code = """
from ablate import lazy_torch
from ablate.config import compose
from ablate.cost import cost
import ablate.training.fit
import torch
cfg = compose(["activation=geglu", "feedforward=switch", "norm=scalenorm"])
found = cost(cfg)
optimizer = torch.optim.AdamW([torch.ones(1, requires_grad=True)])
optimizer.zero_grad()
print(*map(lazy_torch.is_imported, lazy_torch.ANSWERS))
import torch._dynamo.utils, torch._inductor, sympy.core
assert [len(sympy.primitive_root.__doc__) > 0, sympy.S(1) + 1] == [True, 2]
print(*map(lazy_torch.is_imported, lazy_torch.ANSWERS), found == cost(cfg))
"""
    assert said(code) == ["False", "False", "False", "True", "True", "True", "True"]


def test_the_real_modules_answer_as_these_do():
    code = """
import sys
from ablate import lazy_torch
lazy_torch.install()
name = lazy_torch.SIZES
before = sys.modules[name]
from torch.fx.experimental.symbolic_shapes import ShapeEnv
shapes = sys.modules[name]
assert shapes is not before and before.ShapeEnv is shapes.ShapeEnv is ShapeEnv and before.sym_eq is shapes.sym_eq
answers = lazy_torch._OF_SIZES
print([one for one in answers if not callable(getattr(shapes, one, None))], sys.modules["sympy"].Integer(2))
for sizes in ([2, 3], (2, 3)), ([2], [3]), ([2], [2, 2]), (2, 2):
    assert answers["sym_eq"](*sizes) == shapes.sym_eq(*sizes)
for conditions in (True,), (True, False), (False, False), (True, True):
    for join in ("sym_and", "sym_or"):
        assert answers[join](*conditions) == getattr(shapes, join)(*conditions)
"""
    assert said(code) == ["[]", "2"]


def test_what_was_asked_before_holds_when_something_is_compiled_later():
    """A function that was to be left alone is, and a compiled model is known as one."""
    code = """
import torch
from ablate import lazy_torch
lazy_torch.install()
from torch._dynamo import OptimizedModule, disable
from torch.fx.experimental.symbolic_shapes import guard_or_false
calls = []
@disable
def alone(x):
    calls.append(torch.compiler.is_compiling())
    return x + 1
model = torch.nn.Linear(2, 2)
alone(torch.ones(1))
assert not isinstance(model, OptimizedModule) and not lazy_torch.is_imported(lazy_torch.COMPILER)
graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward
compiled = torch.compile(lambda x: alone(x * 2) * x.shape[0], backend=backend, dynamic=True)
assert [compiled(torch.ones(n)).sum().item() for n in (3, 4)] == [27.0, 48.0]
assert lazy_torch.is_imported(lazy_torch.COMPILER) and isinstance(torch.compile(model), OptimizedModule)
print(len(graphs), *calls, guard_or_false(True))
"""
    assert said(code) == ["2", "False", "False", "False", "True"]


@pytest.mark.parametrize("part", ["torch._dynamo.utils", "sympy.core"])
def test_a_submodule_is_executed_once_and_keeps_what_python_says_of_it(part):
    code = f"""
import sys
from importlib import import_module
from ablate import lazy_torch
lazy_torch.install()
module = import_module("{part}")
assert module is sys.modules["{part}"] and module.__spec__.name == "{part}" and module.__spec__.origin
parent, _, name = "{part}".rpartition(".")
print(getattr(sys.modules[parent], name) is module)
"""
    assert said(code) == ["True"]
