"""Events and ways in PyTorch, each written as a user would."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import innaprop
from innaprop.torch import param_groups, step_in_backward
from innaprop_conformance.backends.states import OTHERS, file_of_state, write_counted
from innaprop_conformance.backends.torch import settings
from innaprop_conformance.cases import Array, Case, Event, Group
from innaprop_conformance.cases.dtypes import stored_as

if TYPE_CHECKING:
    from innaprop_conformance.backends.torch import TorchBackend as Run

Step = Callable[["Run", list[Array | None]], None]


def parameter(values: Array, dtype: str, way: str, device: str) -> torch.nn.Parameter:
    """Return a parameter with these initial values, in the memory layout of the way."""
    made = torch.tensor(values, dtype=getattr(torch, stored_as(dtype)), device=device)
    if way == "complex":
        made = torch.view_as_complex(made)
    return torch.nn.Parameter(_strided(made) if way == "strided parameters" else made)


def tensor(values: Array, like: Tensor, way: str) -> Tensor:
    """Return a gradient for a parameter, in the memory layout of the way."""
    real = like.dtype.to_real() if like.is_complex() else like.dtype
    made = torch.tensor(values, dtype=real, device=like.device)
    if like.is_complex():
        made = torch.view_as_complex(made)
    return _strided(made) if way == "strided gradients" else made


def array(given: Tensor) -> NDArray[Any]:
    """Return a tensor's values: complex numbers as pairs, bfloat16 as float32."""
    given = given.detach()
    if given.is_complex():
        given = torch.view_as_real(given)
    # Converted to float32, since NumPy has no bfloat16.
    return (given.float() if given.dtype == torch.bfloat16 else given).numpy(force=True)


def _strided(made: Tensor) -> Tensor:
    """Return a view of the same values: transposed, and every second element of a larger tensor."""
    if made.dim() > 1:
        made = made.mT.contiguous().mT
    return torch.stack([made, torch.full_like(made, torch.nan)], -1)[..., 0]


def steps(case: Case, optimizer: Any) -> Step:
    """Return the function that makes an update in the case's way."""
    if case.way == "loss scaling":
        return _Scaled()
    if case.way == "step size schedule":
        return _Scheduled(case.group, optimizer)
    if case.way.startswith("clip"):
        return _clipped
    if case.way == "step in backward":
        return _InBackward()
    return {
        "closure": _in_closure,
        "accumulation": _accumulated,
        "maximize": _ascending,
    }.get(case.way, _plain)


def _plain(run: "Run", gradients: list[Array | None]) -> None:
    run.give(gradients)
    run._optimizer.step()


def _ascending(run: "Run", gradients: list[Array | None]) -> None:
    _plain(run, [None if g is None else -g for g in gradients])


def _in_closure(run: "Run", gradients: list[Array | None]) -> None:
    calls: list[Tensor] = []

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        run._optimizer.zero_grad()
        run.give(gradients)
        calls.append(torch.tensor(float(len(calls))))
        return calls[-1]

    returned = run._optimizer.step(closure)
    if len(calls) != 1 or returned is not calls[0]:
        raise ValueError("step must call the closure once and return what it has returned")


def _accumulated(run: "Run", gradients: list[Array | None]) -> None:
    run._optimizer.zero_grad()
    for share in (0.75, 0.25):  # Exact in binary, with sum 1.
        _loss(run, gradients, share).backward()  # type: ignore[no-untyped-call]
    run._optimizer.step()


def _clipped(run: "Run", gradients: list[Array | None]) -> None:
    run.give(gradients)
    case, parameters = run._case, run._parameters
    if case.way == "clip by value":
        torch.nn.utils.clip_grad_value_(parameters, case.amount)
    elif case.way == "clip by norm":
        for p in parameters:
            torch.nn.utils.clip_grad_norm_(p, case.amount)
    else:
        torch.nn.utils.clip_grad_norm_(parameters, case.amount)
    for i, p in enumerate(parameters):
        run.watch(f"gradient {i}", p.grad, array)
    run._optimizer.step()


class _Scaled:
    """Makes updates with a scaled loss; if there are no gradients, with one that overflows."""

    def __init__(self) -> None:
        self._scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def __call__(self, run: "Run", gradients: list[Array | None]) -> None:
        run._optimizer.zero_grad()
        if all(g is None for g in gradients):
            gradients = [np.ones(tuple(p.shape)) for p in run._parameters]
            gradients[1] = np.full(tuple(run._parameters[1].shape), np.inf)
        self._scaler.scale(_loss(run, gradients, 1.0)).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(run._optimizer)
        self._scaler.update()


class _Scheduled:
    """Makes updates with a learning rate scheduler."""

    def __init__(self, group: Group, optimizer: Any) -> None:
        first = group.at("gamma", 0)
        optimizer.param_groups[0]["lr"] = optimizer.defaults["lr"] = first
        self._scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda updates: group.at("gamma", updates) / first
        )

    def __call__(self, run: "Run", gradients: list[Array | None]) -> None:
        _plain(run, gradients)
        self._scheduler.step()


def _loss(run: "Run", gradients: list[Array | None], share: float) -> Tensor:
    pairs = zip(run._parameters, gradients, strict=True)
    terms = [(p * tensor(share * g, p, "")).sum() for p, g in pairs if g is not None]
    return torch.stack(terms).sum()


class _InBackward:
    """Makes every second update in the backward pass, and the others by ``step`` as usual."""

    def __init__(self) -> None:
        self._updates = 0

    def __call__(self, run: "Run", gradients: list[Array | None]) -> None:
        self._updates += 1
        if self._updates % 2:
            run._optimizer.zero_grad()
            model = torch.nn.ParameterList(run._parameters)
            with step_in_backward(model, run._optimizer):
                _loss(run, gradients, 1.0).backward()  # type: ignore[no-untyped-call]
                run._optimizer.step()
        else:
            _accumulated(run, gradients)


def split_by_name(case: Case, parameters: list[Any]) -> dict[str, Any]:
    """Return the arguments of an optimizer whose groups were made by ``param_groups``."""
    decay = max(group.hyperparameters.weight_decay for group in case.groups)
    model = torch.nn.Module()
    for i, (p, owner) in enumerate(zip(parameters, case.owners, strict=True)):
        kind = "kernel" if owner.hyperparameters.weight_decay == decay else "bias"
        model.register_parameter(f"{kind}_{i}", p)
    groups = param_groups(model, weight_decay=decay)
    return {"params": groups, **settings(case.groups[0])}


def begin_counted(run: "Run") -> None:
    """Set the optimizer's count to the case's number of previous updates."""
    with file_of_state() as path:
        write_counted(path, run._case, [f"p{i}" for i in range(len(run._parameters))])
        innaprop.load_state(path, run._optimizer)


def _cloned(run: "Run") -> list[Any]:
    return [torch.nn.Parameter(p.detach().clone()) for p in run._parameters]


def _other_options() -> dict[str, Any]:
    h = OTHERS
    return {
        "lr": h.gamma, "alpha": h.alpha, "beta": h.beta, "sigma": h.sigma, "eps": h.eps,
        "weight_decay": h.weight_decay,
    }  # fmt: skip


def _reload(run: "Run", event: Event) -> None:
    file = io.BytesIO()
    torch.save(run._optimizer.state_dict(), file)
    file.seek(0)
    run._parameters = _cloned(run)
    run._optimizer = run.make(run._parameters, _other_options())
    run._optimizer.load_state_dict(torch.load(file, weights_only=True))


def _portable_reload(run: "Run", event: Event) -> None:
    with file_of_state() as path:
        innaprop.save_state(path, run._optimizer)
        run._parameters = _cloned(run)
        run._optimizer = run.make(run._parameters, _other_options())
        innaprop.load_state(path, run._optimizer)


def _hand_over(run: "Run", event: Event) -> None:
    state = run._optimizer.state_dict()
    run._parameters = _cloned(run)
    run._optimizer = run.make(run._parameters, _other_options())
    run._optimizer.load_state_dict(state)
    for place, entries in state["state"].items():
        for name, entry in entries.items():
            if isinstance(entry, Tensor):
                run.watch(f"{name} of {place} in the state", entry, array)
    run.watch("the groups in the state", state["param_groups"])


def _update_original(optimizer: Any) -> None:
    """Make an update with the original optimizer, which must not affect the copy."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step()


def _copy(run: "Run", event: Event) -> None:
    old = run._optimizer
    run._parameters, run._optimizer = copy.deepcopy((run._parameters, old))
    _update_original(old)


def _pickle(run: "Run", event: Event) -> None:
    old = run._optimizer
    run._parameters, run._optimizer = pickle.loads(pickle.dumps((run._parameters, old)))
    _update_original(old)


def _change(run: "Run", event: Event) -> None:
    for name, value in event.values:
        run._optimizer.param_groups[event.group][name] = value


def _add(run: "Run", event: Event) -> None:
    assert event.parameter is not None
    run._joins.discard(event.parameter)
    joining = [(f"p{event.parameter}", run._parameters[event.parameter])]
    options = {n: v for n, v in run._optimizer.param_groups[0].items() if "param" not in n}
    run._optimizer.add_param_group({"params": joining, **options})


def _replace(run: "Run", event: Event) -> None:
    assert event.parameter is not None
    p = run._parameters[event.parameter]
    new = torch.tensor(run._case.replacement(event), dtype=p.dtype, device=p.device)
    if event.at % 8 == 0:
        p.data = new
    else:
        with torch.no_grad():
            p.copy_(new)


def _relocate(run: "Run", event: Event) -> None:
    for p in run._parameters:
        p.data = p.data.clone()
        state = run._optimizer.state.get(p, {})
        state |= {name: entry.clone() for name, entry in state.items() if hasattr(entry, "clone")}


HAPPEN: dict[str, Callable[["Run", Event], None]] = {
    "reload": _reload,
    "portable reload": _portable_reload,
    "hand over": _hand_over,
    "copy": _copy,
    "pickle": _pickle,
    "change": _change,
    "add": _add,
    "replace": _replace,
    "relocate": _relocate,
    "skip": lambda run, event: None,  # ``step`` gets no gradients then.
}
"""The implementation of each kind of event."""
