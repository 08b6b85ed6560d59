"""``innaprop plan``: the adviser as a command."""

import argparse
from typing import Any

from innaprop.planning.plan import Plan, plan


def add_plan(commands: Any) -> None:
    """Add ``plan`` to the commands of a parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="say what a run's numbers will do, beside AdamW's",
        description="Say what INNAprop will do over a run: lengths of its steps, what weight decay "
        "does to a weight without a gradient, how much curvature it stands; AdamW's beside it. "
        "With --adamw-lr alone, alpha and beta are suggested.",
    )
    rate = parser.add_argument_group("learning rate")
    rate.add_argument("--lr", type=float, metavar="RATE", help="INNAprop's")
    rate.add_argument("--adamw-lr", type=float, metavar="RATE", help="AdamW's")
    rate.add_argument("--steps", type=int, required=True, metavar="N", help="updates of the run")
    shape = rate.add_mutually_exclusive_group()
    for name in ("constant", "linear", "cosine"):
        ends = "the rate stays (default)" if name == "constant" else f"{name} decay to zero"
        shape.add_argument(
            f"--{name}", dest="schedule", action="store_const", const=name, help=ends
        )
    rate.add_argument(
        "--warmup", dest="warmup_steps", type=int, default=0, metavar="N",
        help="updates of linear warmup (default 0)",
    )  # fmt: skip
    parser.add_argument("--alpha", type=float, metavar="NUMBER", help="goes with --beta")
    parser.add_argument("--beta", type=float, metavar="NUMBER", help="goes with --alpha")
    parser.add_argument(
        "--weight-decay", type=float, default=0.01, metavar="NUMBER", help="default 0.01"
    )
    parser.add_argument(
        "--decay-momentum", action=argparse.BooleanOptionalAction,
        help="whether the decay reaches the momentum (default with --lr: it does)",
    )  # fmt: skip
    parser.set_defaults(schedule="constant")


def planned(options: argparse.Namespace) -> Plan:
    """Return the plan that the command's options ask for.

    Raises:
        ValueError: See ``plan``.
    """
    names = ("lr", "adamw_lr", "schedule", "warmup_steps", "alpha", "beta", "weight_decay")
    values = {name: getattr(options, name) for name in names}
    return plan(steps=options.steps, decay_momentum=options.decay_momentum, **values)
