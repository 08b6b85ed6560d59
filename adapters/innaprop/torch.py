"""INNAprop as a ``torch.optim.Optimizer``."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from innaprop_core import check_hyperparameters, momentum

__all__ = ["INNAprop"]

_NAMES = {"gamma": "lr"}
_DTYPES = (torch.float32, torch.float64)


class INNAprop(torch.optim.Optimizer):
    """INNAprop, with AdamW's memory: two tensors of state per parameter.

    Args:
        params: Parameters, named parameters or parameter groups, as every optimizer of
            ``torch.optim`` takes them; float32 or float64, dense, of any shape. All options
            can be set per group.
        lr: Learning rate, the paper's gamma, in [0, beta); a float or a 0-d tensor.
            Default 1e-3.
        alpha: Viscous damping, >= 0. Default 0.1.
        beta: Newtonian damping, > 0. Default 0.9.
        sigma: Memory of the second moment, in [0, 1). Default 0.999.
        eps: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay per unit of lr, the paper's lambda, >= 0. Default 0.01.
        maximize: Follow the gradient up, not down. Default False.

    Raises:
        TypeError: An option is not a number, or a parameter is not float32 or float64.
        ValueError: An option is outside its range, or lr >= beta.

    State per parameter: ``step`` (updates made, float32 scalar on the CPU),
    ``momentum_buffer`` and ``exp_avg_sq`` (both like the parameter, starting at zero).

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.

    Example:
        >>> import torch
        >>> from innaprop import BEST_ACCURACY
        >>> from innaprop.torch import INNAprop
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = INNAprop(model.parameters(), lr=1e-3, **BEST_ACCURACY)
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        alpha: float = 0.1,
        beta: float = 0.9,
        sigma: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "beta": beta,
            "sigma": sigma,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        _check_options(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with options of its own where it names them.

        Args:
            param_group: ``{"params": ..., **options}``.

        Raises:
            TypeError: An option is not a number, or a parameter is not float32 or float64.
            ValueError: An option is outside its range, or lr >= beta. Nothing has been
                added then.
        """
        _check_options({**self.defaults, **param_group})
        params = param_group["params"]
        # A generator can be read once only, and the base class has to read it too.
        params = [params] if isinstance(params, Tensor) else list(params)
        for param in params:
            tensor = param[1] if isinstance(param, tuple) else param
            if isinstance(tensor, Tensor) and tensor.dtype not in _DTYPES:
                raise TypeError(
                    f"params must be float32 or float64, got a parameter of {tensor.dtype}; "
                    "keep the parameters in float32 and use torch.autocast for 16-bit arithmetic"
                )
        super().add_param_group({**param_group, "params": params})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update of every parameter that has a gradient.

        Args:
            closure: Evaluates the model again and returns the loss. Default None.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError: A group's lr has become >= its beta, or another of its options has
                left its range. Nothing has changed then.
            RuntimeError: A gradient is sparse. Nothing has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            _check_options(group)
            for p in _with_gradient(group):
                if p.grad.layout != torch.strided:
                    raise RuntimeError(
                        f"INNAprop needs dense gradients, got one of layout {p.grad.layout}; "
                        "build the embedding with sparse=False, or give its parameters to "
                        "torch.optim.SparseAdam"
                    )
        for group in self.param_groups:
            for p in _with_gradient(group):
                self._update(p, -p.grad if group["maximize"] else p.grad, group)
        return loss

    def _update(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.tensor(0.0, dtype=torch.float32)
            state["momentum_buffer"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
        # State tensors are replaced, not written into: after load_state_dict they may
        # still be the caller's.
        state["step"] = state["step"] + 1
        lr = group["lr"]
        c = momentum.coefficients(
            state["step"].item(),
            gamma=lr if isinstance(lr, Tensor) else float(lr),
            alpha=group["alpha"],
            beta=group["beta"],
            sigma=group["sigma"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )
        theta, state["momentum_buffer"], state["exp_avg_sq"] = momentum.step(
            p, state["momentum_buffer"], state["exp_avg_sq"], gradient, c, torch.sqrt
        )
        p.copy_(theta)

    @torch.no_grad()
    def psi(self, parameter: Tensor) -> Tensor:
        """Return the paper's psi of a parameter.

        Args:
            parameter: One of the optimizer's parameters.

        Returns:
            A new tensor like the parameter.

        Raises:
            ValueError: The optimizer does not hold this parameter.

        Source: arXiv 2410.05871, Algorithm 1.
        """
        for group in self.param_groups:
            if any(parameter is p for p in group["params"]):
                m = self.state.get(parameter, {}).get("momentum_buffer")
                m = torch.zeros_like(parameter) if m is None else m
                psi: Tensor = momentum.psi_from_momentum(
                    parameter, m, alpha=group["alpha"], beta=group["beta"]
                )
                return psi
        raise ValueError(
            f"parameter must be one that the optimizer holds, got a tensor of shape "
            f"{tuple(parameter.shape)} that it does not"
        )


def _with_gradient(group: dict[str, Any]) -> Iterable[Any]:
    return (p for p in group["params"] if p.grad is not None)


def _check_options(options: dict[str, Any]) -> None:
    lr = options["lr"]
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(f"lr must be a float or a tensor of one element, got {lr!r}")
        # Reading a number off another device would stop the host at every step.
        lr = lr.item() if lr.device.type == "cpu" else 0.0
    check_hyperparameters(
        {
            "gamma": lr,
            **{key: options[key] for key in ("alpha", "beta", "sigma", "eps", "weight_decay")},
        },
        _NAMES,
    )
    if not isinstance(options["maximize"], bool):
        raise TypeError(f"maximize must be True or False, got {options['maximize']!r}")
