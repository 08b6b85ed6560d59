"""The optimizer: options, parameter groups, state, and the choice of the form."""

from array import array
from collections.abc import Callable
from operator import attrgetter
from typing import Any, overload

import torch
from torch import Tensor

from innaprop.forms import Row, traced
from innaprop.forms.foreach import SIXTEEN_BITS
from innaprop.forms.triton import kernel_of
from innaprop.torch.options import (
    FLAGS,
    STORAGE,
    check_options,
    check_step_size,
    has_schedules,
    numbers_at,
    plain_numbers,
)
from innaprop.torch.plain import gradient_of, is_fake, plain
from innaprop.torch.plan import (
    Call,
    Gathered,
    Plan,
    facts_of,
    gather,
    make_plan,
    options_of,
)
from innaprop.torch.state_dict import (
    MANTISSA,
    PACKED,
    as_saved,
    check_state_bits,
    count_dtype,
    master_weights_of,
    moments_of,
    read_state_dict,
    residual_of,
    store_state,
)
from innaprop_core import momentum, packed
from innaprop_core.momentum import Coefficients

_DTYPES = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.complex64,
    torch.complex128,
)
_layout: Callable[[Any], torch.layout] = attrgetter("layout")
_FLOAT_STATE = ("momentum_buffer", "exp_avg_sq", "psi")
_FUSED_ON = ("cpu", "cuda")


class INNAprop(torch.optim.Optimizer):
    """INNAprop. Its state is as large as AdamW's: two tensors per parameter.

    Args:
        params: Parameters, named parameters or parameter groups, as every optimizer of
            ``torch.optim`` takes them; float32, float64, bfloat16, float16 or complex (updated
            as pairs of reals), dense, of any shape. All options can be set per group. A parameter
            that is listed twice (PyTorch warns) is updated once.
        lr: Learning rate, the paper's gamma, >= 0, and smaller than beta at every step; a float
            or a tensor of one element. Default 1e-3.
        alpha: Viscous damping, >= 0; a number, or a schedule: a callable that takes the number of
            previous updates (0 at the first; a 0-d tensor with capturable and in torch.compile)
            and returns a number. Default 0.1.
        beta: Newtonian damping, > 0; like alpha. Default 0.9.
        sigma: Decay rate of the second moment (Adam's beta2), in [0, 1). Default 0.999.
        eps: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay per unit of lr, the paper's lambda, >= 0. Default 0.01.
        maximize: Maximize the objective instead of minimizing it. Default False.
        foreach: Use ``torch._foreach`` operations (True), or update one tensor at a time (False).
            Default None: a kernel if available, else True.
        capturable: Keep the step count on the parameter's device and never read from the device,
            so that the step can be captured in a CUDA graph. Default False.
        fused: Use one kernel for all parameters, which is fastest: in C on the CPU, in Triton on
            CUDA devices. It is compiled on first use. Default None: if available, unless foreach
            is set. If it is True and no kernel is available, the optimizer warns once and uses
            foreach.
        residual: Keep 16 more bits for every bfloat16 and float16 parameter, so that both together
            are float32 master weights. Otherwise small steps are lost in rounding. Default True.
        decay_momentum: Whether weight decay also changes the momentum, as in Algorithm 1. If not,
            each parameter only decays by lr times weight_decay, as in AdamW. Default True.
        state_bits: Bits of the momentum and of the second moment, each: 32; or 16, for float32,
            bfloat16 and float16 parameters only. Default 32.
        seed: Seed of the stochastic rounding of a 16-bit state; any integer. Default 0.

    Raises:
        TypeError: An option is of the wrong type, or a parameter of another dtype; float64 and
            complex ones with state_bits=16.
        ValueError: An option is outside its range, or two options exclude each other.
        RuntimeError: fused is True and a parameter is complex, or on a device other than the CPU,
            CUDA or meta (from which it must be moved before the first step).

    State per parameter: ``step`` (number of updates, a float64 scalar), ``momentum_buffer`` and
    ``exp_avg_sq`` (like the parameter, in float32 for 16-bit ones), all starting at zero. With
    state_bits=16, ``packed_state`` (int32, like the parameter) replaces the latter two. 16-bit
    parameters also have ``residual`` (int16) and ``residual_mantissa``, an integer: 7 if the
    residual is for bfloat16, 10 if it is for float16. Other entries that users add are kept.

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
        alpha: float | Callable[[int], float] = 0.1,
        beta: float | Callable[[int], float] = 0.9,
        sigma: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        fused: bool | None = None,
        residual: bool = True,
        decay_momentum: bool = True,
        state_bits: int = 32,
        seed: int = 0,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "beta": beta,
            "sigma": sigma,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "fused": fused,
            "residual": residual,
            "decay_momentum": decay_momentum,
            "state_bits": state_bits,
            "seed": seed,
        }
        check_options(defaults)
        self._plan: Plan | None = None
        self._in_backward: list[Any] = []
        super().__init__(params, plain_numbers(defaults))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plan, self._in_backward = None, []
        for group in self.param_groups:
            for option, default in {**FLAGS, **STORAGE}.items():
                group.setdefault(option, default)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with its own values of the options that it contains.

        Args:
            param_group: ``{"params": ..., **options}``.

        Raises:
            TypeError: It is not a dict with ``params``, an option is of the wrong type, or a
                parameter of another dtype. Nothing is added then.
            ValueError: An option is outside its range. Likewise.
            RuntimeError: fused is True and a parameter is complex, or on a device other than the
                CPU, CUDA or meta. Likewise.
        """
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(
                f"param_group must be a dict with the entry 'params', got {param_group!r}"
            )
        check_options({**self.defaults, **param_group})
        param_group = plain_numbers(param_group)
        options = {**self.defaults, **param_group}
        params = param_group["params"]
        if isinstance(params, Tensor):
            params = [params]
        elif not isinstance(params, set):  # The base class rejects sets, which have no order.
            # A generator can be read only once, and the base class needs it too.
            params = list(params)
        for param in params:
            tensor = param[1] if isinstance(param, tuple) else param
            if not isinstance(tensor, Tensor):
                continue  # The base class raises.
            if tensor.dtype not in _DTYPES:
                raise TypeError(
                    "params must be float32, float64, bfloat16, float16, complex64 or "
                    f"complex128, got a parameter of {tensor.dtype}"
                )
            check_state_bits(tensor, options)
            if options["fused"] and (
                tensor.device.type not in (*_FUSED_ON, "meta") or tensor.is_complex()
            ):
                raise RuntimeError(
                    "fused=True needs real parameters on cpu or cuda, got one of "
                    f"{tensor.dtype} on {tensor.device}; leave fused out"
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
            TypeError: An option of a group was set to a wrong type. Nothing is changed then.
            ValueError: An option is outside its range, lr >= beta, or the state of a parameter
                does not fit it. Likewise.
            RuntimeError: A gradient is sparse, or fused is True and a parameter is not on the
                CPU or a CUDA device. Likewise.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update_params(
            [[p for p in g["params"] if p.grad is not None] for g in self.param_groups]
        )
        return loss

    def _update_params(self, active: list[list[Tensor]]) -> None:
        """Make one update of parameters with gradients, which are listed by group."""
        if torch.compiler.is_compiling() or any(is_fake(ps[0]) for ps in active if ps):
            for group, params in zip(self.param_groups, active, strict=True):
                self._step_traced(group, params)
            return

        self._health_check()
        skip = getattr(self, "found_inf", None)
        capturable = all(group["capturable"] for group in self.param_groups)
        if skip is not None and not capturable and skip.item():
            return
        for group, params in zip(self.param_groups, active, strict=True):
            self._check(group, params)
        gathered, plan = self._gather(active)
        skips = skip is not None and all(call.form.FORM.skips for call in plan.calls)
        if skip is not None and not (skips and capturable):
            if skip.item():
                return
            skip = None
        work = [(call, *self._prepared(call, gathered)) for call in plan.calls]
        for call, own, sets, which in work:
            call.form.update(own.rows, call.layout, sets, which, own.steps, skip)

    def _prepared(
        self, call: Call, gathered: Gathered
    ) -> tuple[Gathered, list[tuple[Coefficients, Any]], "array[int]"]:
        """Return a call's rows, the sets of scalars, and the index of each row's set."""
        own = gathered.picked(call.places)
        reads = call.form.FORM.reads_scalars
        scales = [self._gradient_scale(group, reads=reads) for group in self.param_groups]
        if own.params and self.param_groups[own.groups[0]]["capturable"] and not reads:
            # The counts stay on the device.
            sets = []
            for i, group in enumerate(self.param_groups):
                steps = [step for step, of in zip(own.steps, own.groups, strict=True) if of == i]
                k = torch.stack(steps) + 1 if steps else torch.ones(1)
                sets.append((self._coefficients_at(group, k), scales[i]))
            return own, sets, call.groups
        if call.form.FORM.corrects and not any(map(has_schedules, self.param_groups)):
            return (
                own,
                [
                    (self._coefficients_at(group, 1), scale)
                    for group, scale in zip(self.param_groups, scales, strict=True)
                ],
                call.groups,
            )
        counts = [step.item() for step in own.steps]
        places: dict[tuple[int, float], int] = {}
        keys = zip(own.groups, counts, strict=True)
        which = array("q", [places.setdefault(key, len(places)) for key in keys])
        sets = []
        for i, count in places:
            group = self.param_groups[i]
            c = self._coefficients_at(group, count + 1)
            if call.form.FORM.corrects and group["state_bits"] == 16:
                c = c._replace(draw=packed.draw(1, group["seed"]))
            sets.append((c, scales[i]))
        return own, sets, which

    def _health_check(self) -> None:
        # PyTorch checks that a captured step is capturable; older versions use the second name.
        for name in (
            "_accelerator_graph_capture_health_check",
            "_cuda_graph_capture_health_check",
        ):
            check = getattr(self, name, None)
            if check is not None:
                check()
                return

    def _check(self, group: dict[str, Any], active: list[Tensor]) -> None:
        """Check everything that can be checked before anything is changed."""
        check_options(group)
        check_step_size(group["lr"], group["beta"])
        for layout in {*map(_layout, (p.grad for p in active))} - {torch.strided}:
            raise RuntimeError(
                f"INNAprop needs dense gradients, got one of layout {layout}; build the "
                "embedding with sparse=False, or give its parameters to torch.optim.SparseAdam"
            )
        if has_schedules(group) and not group["capturable"]:
            for updates in {self._step_count(p) for p in active}:
                check_step_size(group["lr"], numbers_at(group, updates)["beta"])

    def _gather(self, active: list[list[Tensor]]) -> tuple[Gathered, Plan]:
        """Return all rows and the plan of their update, which is cached while it is valid."""
        gathered = gather(self.param_groups, active, self.state)
        facts = None if gathered is None else facts_of(gathered)
        options = options_of(self.param_groups)
        plan = self._plan
        if gathered and plan and plan.facts == facts and plan.options == options:
            return gathered, plan
        known = set(plan.facts) if plan and plan.options == options else set()
        changed = [
            (group, p)
            for group, params in zip(self.param_groups, active, strict=True)
            for p in params
        ]
        if facts is not None:
            changed = [pair for pair, fact in zip(changed, facts, strict=True) if fact not in known]
        for group, p in changed:
            self._check_parameter(p, group)
        for group, p in changed:
            self._complete_state(p, group)
        gathered = gather(self.param_groups, active, self.state)
        assert gathered is not None
        self._plan = make_plan(gathered, self.param_groups)
        return gathered, self._plan

    def _check_parameter(self, p: Tensor, group: dict[str, Any]) -> None:
        """Raise if a parameter does not fit its group, its gradient or its state."""
        if group["fused"] and p.device.type not in _FUSED_ON:
            raise RuntimeError(
                f"fused=True needs parameters on cpu or cuda at the step, got one on {p.device}; "
                "move it there, or leave fused out"
            )
        check_state_bits(p, group)
        state = self.state.get(p, {})
        momentum = "psi" if "psi" in state else "momentum_buffer"
        needed = ["step", PACKED] if PACKED in state else ["step", momentum, "exp_avg_sq"]
        missing = set(needed) - state.keys()
        if 0 < len(missing) < len(needed):
            *first, last = needed
            raise ValueError(
                f"the state of a parameter must have {', '.join(first)} and {last}, or none of "
                f"them, got only {', '.join(map(str, state))}"
            )
        others = {"gradient": p.grad, **state}
        for name in ("gradient", *_FLOAT_STATE, PACKED, "residual"):
            other = others.get(name)
            if other is not None and other.shape != p.shape:
                raise ValueError(
                    f"a parameter has become one of shape {tuple(p.shape)}, but its {name} is "
                    f"of shape {tuple(other.shape)}; make a new optimizer"
                )

    def _step_traced(self, group: dict[str, Any], active: list[Tensor]) -> None:
        """Make one update that ``torch.compile`` can trace: no tensor's value is read."""
        skip = getattr(self, "found_inf", None)
        scale = self._gradient_scale(group, reads=False)
        for p in dict.fromkeys(active):
            self._complete_state(p, group)
            state = self.state[p]
            state["step"] += 1
            c = self._coefficients_at(group, state["step"])
            if skip is not None:
                state["step"] -= skip.to(state["step"].device)
            residual = plain(state["residual"]) if "residual" in state else None
            if PACKED in state:
                m = v = plain(state[PACKED])
            else:
                m, v = plain(state["momentum_buffer"]), plain(state["exp_avg_sq"])
            traced.update([Row(plain(p), gradient_of(p), m, v, residual)], c, scale, skip)

    def _complete_state(self, p: Tensor, group: dict[str, Any]) -> None:
        """Create missing entries of a parameter's state, and cast or move the others."""
        state = self.state[p]
        dtype = torch.float32 if p.dtype in SIXTEEN_BITS else p.dtype
        device = p.device if group["capturable"] else torch.device("cpu")
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=count_dtype(device), device=device)
            if group["state_bits"] == 16:
                state[PACKED] = torch.zeros_like(p, dtype=torch.int32)
            else:
                for name in ("momentum_buffer", "exp_avg_sq"):
                    state[name] = torch.zeros_like(p, dtype=dtype)
        state["step"] = state["step"].to(device, count_dtype(device))
        for name in _FLOAT_STATE:
            value = state.get(name)
            # The parameter may have been converted since.
            if value is not None and (value.dtype != dtype or value.device != p.device):
                state[name] = value.to(p.device, dtype)
        if PACKED in state and state[PACKED].device != p.device:
            state[PACKED] = state[PACKED].to(p.device)
        if p.dtype not in SIXTEEN_BITS or not group["residual"]:
            for name in ("residual", "residual_mantissa"):
                state.pop(name, None)
        else:
            residual = residual_of(p, state)
            if residual is None:
                state["residual"] = torch.zeros_like(p, dtype=torch.int16)
            elif residual.dtype != torch.int16 or residual.device != p.device:
                state["residual"] = residual.to(p.device, torch.int16)
            state["residual_mantissa"] = MANTISSA[p.dtype]
        if "psi" in state:
            # The authors' state. Converted only now, since the parameters may be loaded later.
            numbers = numbers_at(group, max(self._step_count(p) - 1, 0))
            state["momentum_buffer"] = momentum.momentum_from_psi(
                master_weights_of(p, state), state["psi"], **numbers
            )
            # Last, so that one of the two exists if this is interrupted.
            del state["psi"]
        store_state(p, state, group)

    def _step_count(self, p: Tensor) -> int:
        state = self.state.get(p, {})
        return int(state["step"].item()) if "step" in state else 0

    def _coefficients_at(self, group: dict[str, Any], k: Any) -> Coefficients:
        lr = group["lr"]
        if not isinstance(lr, Tensor):
            lr = float(lr)
        else:
            lr = lr.reshape(()) if isinstance(k, Tensor) else lr.item()
        numbers = numbers_at(group, k - 1 if isinstance(k, Tensor) else int(k) - 1)
        if (
            has_schedules(group)
            and not torch.compiler.is_compiling()
            and not isinstance(lr, Tensor)
        ):
            check_step_size(lr, numbers["beta"])
        return momentum.coefficients(
            k,
            gamma=lr,
            **numbers,
            sigma=float(group["sigma"]),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            decay_momentum=group["decay_momentum"],
            seed=group["seed"] if group["state_bits"] == 16 else None,
            **({"expm1": torch.expm1} if isinstance(k, Tensor) else {}),
        )

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether torch.amp.GradScaler leaves unscaling and skipping to the step.

        Only with fused=True and an available kernel. By default the scaler does it, since trainers
        that clip gradients reject optimizers that unscale them.
        """
        return any(
            group["fused"] and kernel is not None and not isinstance(kernel.load(), str)
            for group in self.param_groups
            for kernel in {kernel_of(p.device) for p in group["params"]}
        )

    def _gradient_scale(self, group: dict[str, Any], *, reads: bool) -> Any:
        """Return the factor of the gradients: a number; or GradScaler's tensor, unless reads."""
        sign = -1.0 if group["maximize"] else 1.0
        grad_scale = getattr(self, "grad_scale", None)
        if grad_scale is None:
            return sign
        return sign / (float(grad_scale.item()) if reads else grad_scale)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of this class, or of the authors' optimizer.

        Tensors are copied. State is moved to the parameters' devices, and cast to float32 for
        16-bit parameters. Options that the dict lacks keep their values; so do alpha and beta if
        they are None in it, which stands for a schedule. state_bits always keeps its value: state
        with another number of bits is converted.

        The authors' state has the paper's psi in place of the momentum. The momentum is computed
        at the first use, from psi, the parameter, and the group's alpha and beta, so the model's
        weights may be loaded later.

        Args:
            state_dict: What ``state_dict()`` returned.

        Raises:
            TypeError: An option in it is of the wrong type. Nothing is changed then.
            ValueError: The dict does not fit this optimizer: groups or shapes differ, entries are
                missing, or an option is outside its range. Nothing is changed then.
        """
        # Like the base class, which would cast the state wrongly.
        state_dict = state_dict.copy() if isinstance(state_dict, dict) else state_dict
        for hook in getattr(self, "_optimizer_load_state_dict_pre_hooks", {}).values():
            state_dict = hook(self, state_dict) or state_dict
        self.__setstate__(read_state_dict(self, state_dict))
        for post_hook in getattr(self, "_optimizer_load_state_dict_post_hooks", {}).values():
            post_hook(self)

    def state_dict(self) -> dict[str, Any]:
        """Return the state and the options; None stands for a schedule of alpha or beta.

        Residuals that are sharded over processes are int32 in it, since neither gloo nor NCCL can
        send int16, which gathering the full state requires.
        """
        # Before the hooks of users, who may change the dict.
        first = self.register_state_dict_post_hook(as_saved, prepend=True)
        try:
            return super().state_dict()
        finally:
            first.remove()

    @torch.no_grad()
    def master_weights(self, parameter: Tensor) -> Tensor:
        """Return a parameter's master weights: float32 for a 16-bit parameter.

        Args:
            parameter: One of the optimizer's parameters.

        Returns:
            A new tensor like the parameter; a 16-bit one is combined with its residual in float32.

        Raises:
            ValueError: The optimizer does not hold this parameter.
        """
        self._group_of(parameter)
        theta = master_weights_of(parameter, self.state.get(parameter, {}))
        return theta.clone() if theta is parameter else theta

    @torch.no_grad()
    def psi(self, parameter: Tensor) -> Tensor:
        """Return the paper's psi of a parameter.

        Args:
            parameter: One of the optimizer's parameters.

        Returns:
            A new tensor like the parameter; float32 for 16-bit ones.

        Raises:
            ValueError: The optimizer does not hold this parameter.

        Source: arXiv 2410.05871, Algorithm 1.
        """
        group = self._group_of(parameter)
        state: dict[str, Any] = self.state.get(parameter, {})
        if "psi" in state:
            return state["psi"].clone()  # type: ignore[no-any-return]
        theta = master_weights_of(parameter, state)
        m, _ = moments_of(parameter, state)
        updates = self._step_count(parameter)
        psi: Tensor = momentum.psi_from_momentum(
            theta,
            torch.zeros_like(theta) if m is None else m,
            **numbers_at(group, max(updates - 1, 0)),
        )
        return psi

    def _group_of(self, parameter: Tensor) -> dict[str, Any]:
        for group in self.param_groups:
            if any(parameter is p for p in group["params"]):
                return group
        raise ValueError(
            f"parameter must be one that the optimizer holds, got a tensor of shape "
            f"{tuple(parameter.shape)} that it does not"
        )
