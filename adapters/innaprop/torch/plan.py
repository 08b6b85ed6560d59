"""The assignment of parameters to calls of forms, cached as long as it is valid.

Sorting hundreds of small parameters costs more than updating them. A plan is valid until something
that it depends on changes: which parameters have gradients, the addresses of parameters and state,
their dtypes, an option. It contains addresses but no tensors, so that it does not keep old state
alive.
"""

import functools
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innaprop.forms import Row, foreach, single_tensor
from innaprop.forms.foreach import SIXTEEN_BITS
from innaprop.forms.triton import kernel_of
from innaprop.torch.options import FLAGS, uses_kernel
from innaprop.torch.plain import PLAIN, gradient_of, local, plain
from innaprop.torch.state_dict import PACKED

_dtype: Callable[[Tensor], torch.dtype] = attrgetter("dtype")
_OF_32_BITS = ("momentum_buffer", "exp_avg_sq")
_momentum_buffer, _exp_avg_sq, _step = map(itemgetter, (*_OF_32_BITS, "step"))


class Gathered(NamedTuple):
    """The parameters that have gradients, with the tensors of their update."""

    params: list[Tensor]
    groups: list[int]
    """The index of each parameter's group."""
    rows: Row
    """A row whose fields are lists of plain tensors."""
    steps: list[Tensor]
    """The step counts."""

    def picked(self, places: Sequence[int] | None) -> "Gathered":
        """Return those at some positions; None stands for all."""
        if places is None:
            return self
        columns: tuple[list[Any], ...] = self.params, self.groups, self.steps, *self.rows
        params, groups, steps, *of_rows = ([column[i] for i in places] for column in columns)
        return Gathered(params, groups, Row(*of_rows), steps)

    def single_rows(self) -> list[Row]:
        """Return the rows one by one."""
        return list(map(Row, *self.rows))


def gather(
    groups: Sequence[dict[str, Any]], active: Sequence[list[Tensor]], state: dict[Any, Any]
) -> Gathered | None:
    """Return all rows, group by group; None if a state is incomplete.

    Runs at every step, so loops over tensors are left to C code such as ``map``.
    """
    params = [p for of_group in active for p in of_group]
    places = [i for i, of_group in enumerate(active) for _ in of_group]
    states = list(map(state.get, params))
    grads: list[Any] = [p.grad for p in params]
    thetas: list[Any] = params
    dtypes = {*map(_dtype, params)}
    try:
        if any(group["state_bits"] == 16 for group in groups):
            both = [
                [s[PACKED]] * 2 if groups[i]["state_bits"] == 16 else [s[n] for n in _OF_32_BITS]  # type: ignore[index]
                for i, s in zip(places, states, strict=True)
            ]
            ms, vs = [m for m, _ in both], [v for _, v in both]
        else:
            ms = list(map(_momentum_buffer, states))  # type: ignore[arg-type]
            vs = list(map(_exp_avg_sq, states))  # type: ignore[arg-type]
        steps = list(map(_step, states))  # type: ignore[arg-type]
        residuals: list[Any] = [None] * len(params)
        if not dtypes.isdisjoint(SIXTEEN_BITS):
            residuals = [
                s["residual"] if groups[i]["residual"] and p.dtype in SIXTEEN_BITS else None  # type: ignore[index]
                for i, p, s in zip(places, params, states, strict=True)
            ]
    except (KeyError, TypeError):
        return None
    if not PLAIN.issuperset(map(type, params)) or any(dtype.is_complex for dtype in dtypes):
        thetas, ms, vs = (list(map(plain, column)) for column in (params, ms, vs))
        residuals = list(map(local, residuals))
        grads = list(map(gradient_of, params))
    elif not PLAIN.issuperset(map(type, grads)):
        grads = list(map(gradient_of, params))
    return Gathered(params, places, Row(thetas, grads, ms, vs, residuals), steps)


@dataclass
class Call:
    """Rows that are updated together, by one form."""

    form: Any
    """The form's module."""
    places: list[int] | None
    """Their positions in ``Gathered``; None if it is all of them."""
    layout: Any
    """The form's cache for these rows."""
    groups: "array[int]"
    """The index of each row's group."""


@dataclass
class Plan:
    """The calls that make an update."""

    options: list[Any]
    """The options that it depends on, of all groups."""
    facts: list[Any]
    """What it depends on of each row."""
    calls: list[Call]


def options_of(groups: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the options that a plan depends on."""
    return [group[name] for group in groups for name in (*FLAGS, "state_bits")]


def facts_of(gathered: Gathered) -> list[Any]:
    """Return what a plan depends on of each row's parameter, gradient and state."""
    rows = gathered.rows
    return list(
        zip(
            map(id, gathered.params),
            gathered.groups,
            *(map(Tensor.data_ptr, column) for column in (rows.theta, rows.m, rows.v)),
            map(Tensor.data_ptr, gathered.steps),
            [r if r is None else r.data_ptr() for r in rows.residual],
            *(map(_dtype, tensors) for tensors in (rows.theta, rows.g)),
            *(map(Tensor.numel, tensors) for tensors in (rows.theta, rows.g)),
            [t.is_contiguous() or t.stride() for t in rows.theta],
            strict=True,
        )
    )


def make_plan(gathered: Gathered, groups: Sequence[dict[str, Any]]) -> Plan:
    """Sort rows with complete state into buckets, one call each.

    A parameter that is listed twice is updated once.
    """
    buckets: dict[Any, list[int]] = {}
    once = {id(p): place for place, p in reversed([*enumerate(gathered.params)])}
    for form, places in _forms(gathered, groups, sorted(once.values())):
        rows = gathered.picked(places).single_rows()
        for place, row in zip(places, rows, strict=True):
            capturable = groups[gathered.groups[place]]["capturable"]
            buckets.setdefault((form, form.bucket_key(row), capturable), []).append(place)
    calls = []
    for (form, *_), places in buckets.items():
        own = gathered.picked(places)
        everything = len(places) == len(gathered.params)
        layout = form.Layout(own.rows, own.steps)
        calls.append(Call(form, None if everything else places, layout, array("q", own.groups)))
    return Plan(options_of(groups), facts_of(gathered), calls)


def _forms(
    gathered: Gathered, groups: Sequence[dict[str, Any]], wanted: Sequence[int]
) -> Iterator[tuple[Any, list[int]]]:
    """Yield forms and the positions of their rows: the fastest that the options allow."""
    wishes: dict[Any, list[int]] = {}
    for place in wanted:
        device = gathered.rows.theta[place].device
        wishes.setdefault((gathered.groups[place], device), []).append(place)
    for (i, device), places in wishes.items():
        group, kernel = groups[i], kernel_of(device)
        if not uses_kernel(group):
            yield foreach if group["foreach"] else single_tensor, places
        elif kernel is None or isinstance(reason := kernel.load(), str):
            if kernel is not None and group["fused"]:
                _warn_once(f"INNAprop uses foreach=True instead of fused=True: {reason}")
            yield foreach, places
        elif kernel.takes(gathered.picked(places).rows):
            yield kernel, places
        else:
            for place in places:
                takes = kernel.takes(gathered.picked([place]).rows)
                yield kernel if takes else single_tensor, [place]


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)
