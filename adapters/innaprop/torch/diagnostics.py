"""Diagnostics of a run: what the next update will do, measured before every N-th step."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from innaprop import diagnostics
from innaprop.diagnostics.measure import SCALARS, SUMS, Operations, sums
from innaprop.forms.foreach import SIXTEEN_BITS
from innaprop.torch.optimizer import INNAprop
from innaprop.torch.options import numbers_at
from innaprop.torch.plain import gradient_of, plain
from innaprop.torch.state_dict import count_dtype, master_weights_of, moments_of
from innaprop_core import momentum
from innaprop_core.momentum import Coefficients

_CHUNK = {"cpu": 1 << 16}
"""Elements that are measured at a time: on the CPU, as many as fit its cache."""
_CHUNK_ELSEWHERE = 1 << 24


def _less(a: Tensor, b: Any) -> Tensor:
    return torch.lt(a, b, out=torch.empty_like(a))


def _equal(a: Tensor, b: Any) -> Tensor:
    return torch.eq(a, b, out=torch.empty_like(a))


# Comparisons with float results take a third of the time of boolean ones; isfinite alone would take
# longer than all of these operations.
_OPERATIONS = Operations(
    sqrt=torch.sqrt,
    finite=lambda x: _equal(x - x, 0.0),
    less=_less,
    equal=_equal,
    total=torch.sum,
    dot=torch.dot,
)
_Rounds = Callable[[Any], Any] | None


class Diagnostics(diagnostics.Diagnostics, AbstractContextManager["Diagnostics"]):
    """Records what an optimizer does at every N-th step, starting with the next one.

    Parameters with gradients are measured; after ``torch.distributed.fsdp.fully_shard``, their
    local shards. Nothing is measured in steps that ``torch.amp.GradScaler`` skips, in a CUDA graph,
    or in the backward pass (``step_in_backward``).

    Args:
        optimizer: The optimizer.
        every: Steps from one record to the next, >= 1; the first step is always recorded.
            Default 100.
        write: Receivers of every record: callables such as ``wandb.log``,
            ``innaprop.diagnostics.CSV(path)`` or ``innaprop.diagnostics.TensorBoard(writer)``,
            called with a flat dict of numbers and ``step=``. Default none.
        warn: Whether to warn of each signature when it first appears. Default True.

    Raises:
        TypeError: optimizer is not an INNAprop, every is not an integer, warn is not a bool, or an
            item of write is not callable.
        ValueError: every is smaller than 1.

    Groups are named by their ``name``, or "group 0", "group 1", ...

    Example:
        >>> import torch
        >>> from innaprop.torch import Diagnostics, INNAprop
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = INNAprop(model.parameters(), lr=1e-3)
        >>> diagnostics = Diagnostics(optimizer, every=10)
        >>> for _ in range(21):
        ...     loss = model(torch.ones(1, 2)).sum() ** 2
        ...     loss.backward()
        ...     diagnostics.loss(loss)
        ...     optimizer.step()
        >>> [record.step for record in diagnostics.records]
        [1, 11, 21]
    """

    def __init__(
        self,
        optimizer: INNAprop,
        every: int = 100,
        write: Iterable[Callable[..., Any]] = (),
        warn: bool = True,
    ) -> None:
        if not isinstance(optimizer, INNAprop):
            raise TypeError(f"optimizer must be an innaprop.torch.INNAprop, got {optimizer!r}")
        super().__init__(every, write, warn)
        self._optimizer = optimizer
        self._step: int | None = None
        self._measured: dict[str, dict[str, float]] = {}
        outside: Any = torch.compiler.disable  # Hooks are not traced.
        self._handles = [
            optimizer.register_step_pre_hook(outside(self._before)),
            optimizer.register_step_post_hook(outside(self._after)),
        ]

    def remove(self) -> None:
        """Stop recording; records and findings are kept."""
        for handle in self._handles:
            handle.remove()

    def __exit__(self, *error: object) -> None:
        self.remove()

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        if self._step is None:
            updates = [optimizer._step_count(p) for p in optimizer.state]
            self._step = max(updates, default=0)
        if not self.due(self._step + 1):
            return None
        self._measured = {}
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._measured = measure(optimizer)
            return None

        # The closure computes the gradients.
        def measured() -> Any:
            loss = closure()
            self._measured = measure(optimizer)
            return loss

        others = {key: value for key, value in kwargs.items() if key != "closure"}
        return (args[0], measured), others

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        assert self._step is not None
        skip = getattr(optimizer, "found_inf", None)
        due = self.due(self._step + 1)
        if due and skip is not None and skip.item():
            return
        self._step += 1
        measured, self._measured = self._measured, {}
        if measured:
            self.record(self._step, measured)


@torch.no_grad()
def measure(optimizer: INNAprop) -> dict[str, dict[str, float]]:
    """Return what the next step will do with the current gradients.

    Nothing is changed. Synchronises with the device once.

    Args:
        optimizer: The optimizer, of which parameters have gradients.

    Returns:
        By group name, what ``innaprop.diagnostics.Diagnostics.record`` takes; groups without
        gradients are left out. In a CUDA graph, an empty dict.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        return {}
    measured: dict[str, dict[str, float]] = {}
    seen: set[Tensor] = set()
    for i, group in enumerate(optimizer.param_groups):
        params = [p for p in dict.fromkeys(group["params"]) if p.grad is not None]
        params = [p for p in params if p not in seen and p.grad.layout == torch.strided]
        if not params:
            continue
        seen.update(params)
        name = str(group.get("name", f"group {i}"))
        if name in measured:
            name = f"{name} ({i})"
        measured[name] = _measure_group(optimizer, group, params)
    return measured


def _measure_group(
    optimizer: INNAprop, group: dict[str, Any], params: list[Tensor]
) -> dict[str, float]:
    buckets: dict[Any, list[Tensor]] = {}
    for p in params:
        rounds = p.dtype if p.dtype in SIXTEEN_BITS and not group["residual"] else None
        buckets.setdefault((p.device, p.dtype, optimizer._step_count(p), rounds), []).append(p)
    scale = optimizer._gradient_scale(group, reads=True)
    added = dict.fromkeys(SUMS, 0.0)
    scalars: dict[str, float] = {}
    for (device, _, updates, rounds), ps in buckets.items():
        c = _coefficients(optimizer, group, updates, device)
        scalars = scalars or _scalars(group, updates, c)
        of_chunks = []
        for theta, m, v, g in _chunks(optimizer, group, ps):
            g = g * scale if scale != 1 else g
            found = sums(theta, m, v, g, c, _OPERATIONS, _rounding(rounds))
            tensors = [torch.as_tensor(x, device=device) for x in found]
            of_chunks.append(torch.stack([x.to(count_dtype(device)) for x in tensors]))
        if of_chunks:
            for name, x in zip(SUMS, torch.stack(of_chunks).sum(0).tolist(), strict=True):
                added[name] += x
    return {**added, **scalars}


def _coefficients(
    optimizer: INNAprop, group: dict[str, Any], updates: int, device: torch.device
) -> Coefficients:
    """Return the scalars of a group's next update as numbers."""
    k: Any = updates + 1
    if group["capturable"]:  # Its schedules take tensors.
        k = torch.tensor(k, dtype=count_dtype(device), device=device)
    return Coefficients(*(float(x) for x in optimizer._coefficients_at(group, k)))


def _scalars(group: dict[str, Any], updates: int, c: Coefficients) -> dict[str, float]:
    k: Any = torch.tensor(float(updates)) if group["capturable"] else updates
    numbers = numbers_at(group, k)
    named = {"gamma": c.gamma, **numbers, **{key: group[key] for key in SCALARS[3:]}}
    return {key: float(named[key]) for key in SCALARS}


def _rounding(dtype: torch.dtype | None) -> _Rounds:
    return None if dtype is None else lambda x: x.to(dtype).to(x.dtype)


def _chunks(
    optimizer: INNAprop, group: dict[str, Any], params: list[Tensor]
) -> Iterator[list[Tensor]]:
    """Yield theta, m, v and g as flat tensors: small parameters joined, large ones split."""
    limit = _CHUNK.get(params[0].device.type, _CHUNK_ELSEWHERE)
    gathered: list[list[Tensor]] = []
    held = 0
    for p in params:
        row = _row(optimizer, group, p)
        size = row[0].numel()
        if size >= limit:
            yield from map(list, zip(*(torch.split(x, limit) for x in row), strict=True))
        elif size > 0:
            gathered.append(row)
            held += size
        if held >= limit:
            yield _joined(gathered)
            gathered, held = [], 0
    if gathered:
        yield _joined(gathered)


def _joined(rows: list[list[Tensor]]) -> list[Tensor]:
    return rows[0] if len(rows) == 1 else [torch.cat(column) for column in zip(*rows, strict=True)]


def _row(optimizer: INNAprop, group: dict[str, Any], p: Tensor) -> list[Tensor]:
    """Return flat theta, m, v and g of a parameter, in its compute dtype."""
    state: dict[str, Any] = optimizer.state.get(p, {})
    theta = plain(master_weights_of(p, state if group["residual"] else {}))
    m, v = (None if x is None else plain(x) for x in moments_of(p, state))
    if "psi" in state:
        numbers = numbers_at(group, max(optimizer._step_count(p) - 1, 0))
        m = momentum.momentum_from_psi(theta, plain(state["psi"]), **numbers)
    m, v = (torch.zeros_like(theta) if x is None else x for x in (m, v))
    tensors = (theta, m, v, gradient_of(p))
    return [x.to(theta.device, theta.dtype).reshape(-1) for x in tensors]
