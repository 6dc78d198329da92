"""Which class of work an operator of a training step is, and how many operations it makes.

Operators are those that torch's profiler saw, with the shapes of their inputs. A product counts two operations for each
multiply-accumulate, by torch's own formulas; any other operator counts one for each element and elementary step, so
that the forward pass of a layer norm counts 7 for each element.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils import flop_counter

from ablate.training.work import BETWEEN, CLASSES, CONTRACTION, ELEMENT_WISE, MOVEMENT, NORMALIZATION, OPTIMIZER, Work

NORM_SCOPE = "ablate::norm"  # what a `Norm` does is recorded under this name

# operations for each element, step by step
PER_ELEMENT = {
    "aten::_softmax": 5,  # maximum, difference, exponential, sum, quotient
    "aten::_softmax_backward_data": 4,  # product, sum, difference, product
    "aten::_log_softmax": 5,  # maximum, difference, exponential, sum, difference
    "aten::_log_softmax_backward_data": 4,  # exponential, sum, product, difference
    "aten::native_layer_norm": 7,  # sum; difference, square, sum; product with 1/std, with the scale, and the shift
    "aten::native_layer_norm_backward": 11,  # of the scale 2, of the shift 1, of the input 8 (two sums in it)
    "aten::_fused_rms_norm": 4,  # square, sum, product with 1/rms, with the scale
    "aten::_fused_rms_norm_backward": 8,  # of the scale 2, of the input 6 (one sum in it)
    "aten::native_batch_norm": 7,
    "aten::native_batch_norm_backward": 11,
}
SOFTMAX = {name for name in PER_ELEMENT if "softmax" in name} | {"aten::softmax", "aten::log_softmax"}
NORMS = {name for name in PER_ELEMENT if "norm" in name}
PRODUCTS: dict[str, tuple[Any, int]] = {  # the formula of each, and how many of its inputs' shapes that takes
    "aten::mm": (flop_counter.mm_flop, 2),
    "aten::bmm": (flop_counter.bmm_flop, 2),
    "aten::addmm": (flop_counter.addmm_flop, 3),
    "aten::baddbmm": (flop_counter.baddbmm_flop, 3),
    # for a stride of 1 and as many positions as there are inputs, as in every layer here
    "aten::convolution": (lambda x, weight: 2 * math.prod(x) // x[1] * math.prod(weight), 2),
    "aten::convolution_backward": (lambda gradient, x, weight: 4 * math.prod(x) // x[1] * math.prod(weight), 3),
}
CALL_PRODUCTS = {"aten::linear", "aten::matmul", "aten::einsum"}
ATTENTION = "_scaled_dot_product_"  # in the names of torch's fused kernels, and two products in their forward pass
MOVES = {
    f"aten::{name}"
    for name in (
        "copy_ clone contiguous cat stack embedding embedding_dense_backward index index_select index_put_ "
        "_index_put_impl_ gather scatter scatter_ scatter_add scatter_add_ index_add_ fill_ zero_ zeros "
        "zeros_like ones ones_like full full_like empty empty_like empty_strided to _to_copy as_strided view "
        "reshape _reshape_alias _unsafe_view transpose t permute expand expand_as slice select narrow split "
        "chunk unsqueeze squeeze detach detach_ alias resize_ resolve_conj resolve_neg result_type new_empty "
        "new_zeros arange lift_fresh unbind roll flip pad constant_pad_nd new_empty_strided slice_backward "
        "select_backward set_ item _local_scalar_dense"
    ).split()
}


def work_by_class(events: Iterable[Any], wall: float, *, of_device: bool) -> dict[str, Work]:
    """What each class took, of the events of torch's profiler (with shapes) over `wall` seconds.

    of_device: whether the time of kernels counts, in place of that of the operators on the CPU.
    """
    events = [event for event in events if event.device_type == torch.autograd.DeviceType.CPU]
    in_norm = _norm_nodes(events)
    seconds, operations = dict.fromkeys(CLASSES, 0.0), dict.fromkeys(CLASSES, 0)
    for event in events:
        kind = _class_of(event, in_norm)
        time = event.self_device_time_total if of_device else event.self_cpu_time_total
        seconds[kind] += time / 1e6
    for event in events:
        if event.cpu_parent is None:
            for counted, count in _operations(event):
                operations[_class_of(counted, in_norm)] += count
    seconds[BETWEEN] = max(0.0, wall - sum(time for kind, time in seconds.items() if kind != BETWEEN))
    return {kind: Work(seconds[kind], operations[kind]) for kind in CLASSES}


def _norm_nodes(events: list[Any]) -> set[int]:
    """The numbers of the nodes of the backward pass that belong to a `Norm`.

    The operator that made a node is the last one that began with the number that it has.
    """
    last: dict[int, Any] = {}
    for event in events:
        is_backward = event.name.startswith("autograd::") or event.scope == 1
        if event.sequence_nr >= 0 and not is_backward:
            known = last.get(event.sequence_nr)
            if known is None or event.time_range.start >= known.time_range.start:
                last[event.sequence_nr] = event
    return {number for number, event in last.items() if any(above.name == NORM_SCOPE for above in _chain(event))}


def _chain(event: Any) -> Iterator[Any]:
    """The event, what it is inside of, and so on."""
    while event is not None:
        yield event
        event = event.cpu_parent


def _class_of(event: Any, in_norm: set[int]) -> str:
    if not event.name.startswith("aten::"):
        return BETWEEN
    for above in _chain(event):
        if above.name.startswith("Optimizer.step"):
            return OPTIMIZER
        if above.name == NORM_SCOPE or (above.name.startswith("autograd::") and above.sequence_nr in in_norm):
            return NORMALIZATION
    for above in _chain(event):  # what an operator calls is part of it
        if above.name in SOFTMAX | NORMS:
            return NORMALIZATION
        if above.name in PRODUCTS or ATTENTION in above.name:
            return CONTRACTION
    if event.name in CALL_PRODUCTS:
        return CONTRACTION  # what they do besides
    return MOVEMENT if event.name in MOVES else ELEMENT_WISE


def _operations(event: Any) -> list[tuple[Any, int]]:
    """The operators at or below `event` that operations are counted for, with how many: each is counted once."""
    name, shapes = event.name, event.input_shapes
    if name in PRODUCTS:
        formula, inputs = PRODUCTS[name]
        return [(event, int(formula(*shapes[:inputs])))]
    if ATTENTION in name:
        return [(event, _attention(shapes, is_backward="backward" in name))]
    if name in PER_ELEMENT:
        return [(event, PER_ELEMENT[name] * _elements(event))]
    below = [found for child in event.cpu_children for found in _operations(child)]
    if below or not name.startswith("aten::") or name in MOVES:
        return below
    return [(event, _elements(event))]


def _attention(shapes: list[list[int]], *, is_backward: bool) -> int:
    """Of fused attention, without the scores that the backward pass computes again."""
    query, key, value = shapes[1:4] if is_backward else shapes[:3]
    forward: int = flop_counter.sdpa_flop_count(query, key, value)
    return 2 * forward if is_backward else forward


def _elements(event: Any) -> int:
    """Elements that an operator goes over: those of its inputs' common shape."""
    shapes = [shape for shape in event.input_shapes if all(isinstance(size, int) for size in shape)]
    lists = [shape for shape in event.input_shapes if shape and not all(isinstance(size, int) for size in shape)]
    try:
        common = math.prod(torch.broadcast_shapes(*shapes)) if shapes else 0
    except RuntimeError:  # they have no common one, as those of a loss and its gradient
        common = max(map(math.prod, shapes))
    return common + max((sum(map(math.prod, one)) for one in lists), default=0)
