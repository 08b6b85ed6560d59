"""The command ``innaprop plan``."""

import argparse
from typing import Any

from innaprop.planning.plan import Plan, plan


def add_plan(commands: Any) -> None:
    """Add ``plan`` to the commands of a parser.

    Args:
        commands: The result of ``ArgumentParser.add_subparsers``.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="predict what a run's hyperparameters will do, compared with AdamW",
        description="Predict what INNAprop will do over a run, compared with AdamW: the lengths of "
        "its steps, the decay of a weight without a gradient, and its stability limit. "
        "With --adamw-lr alone, alpha and beta are suggested.",
    )
    rate = parser.add_argument_group("learning rate")
    rate.add_argument("--lr", type=float, metavar="RATE", help="INNAprop's")
    rate.add_argument("--adamw-lr", type=float, metavar="RATE", help="AdamW's")
    rate.add_argument("--steps", type=int, required=True, metavar="N", help="updates of the run")
    shape = rate.add_mutually_exclusive_group()
    for name in ("constant", "linear", "cosine"):
        ends = "constant rate (default)" if name == "constant" else f"{name} decay to zero"
        shape.add_argument(
            f"--{name}", dest="schedule", action="store_const", const=name, help=ends
        )
    rate.add_argument(
        "--warmup", dest="warmup_steps", type=int, default=0, metavar="N",
        help="updates of linear warmup (default 0)",
    )  # fmt: skip
    parser.add_argument("--alpha", type=float, metavar="NUMBER", help="requires --beta")
    parser.add_argument("--beta", type=float, metavar="NUMBER", help="requires --alpha")
    parser.add_argument(
        "--weight-decay", type=float, default=0.01, metavar="NUMBER", help="default 0.01"
    )
    parser.add_argument(
        "--decay-momentum", action=argparse.BooleanOptionalAction,
        help="whether weight decay also changes the momentum (default with --lr: yes)",
    )  # fmt: skip
    parser.set_defaults(schedule="constant")


def planned(options: argparse.Namespace) -> Plan:
    """Return the plan for the command's options.

    Raises:
        ValueError: See ``plan``.
    """
    names = ("lr", "adamw_lr", "schedule", "warmup_steps", "alpha", "beta", "weight_decay")
    values = {name: getattr(options, name) for name in names}
    return plan(steps=options.steps, decay_momentum=options.decay_momentum, **values)
