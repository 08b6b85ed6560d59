"""Updates under a ``tf.distribute`` strategy: computed once, applied on every replica."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from innaprop.tensorflow.slots import scope_of

_unconverted = tf.autograph.experimental.do_not_convert


def check_placement(variables: Sequence[Any]) -> None:
    """Raise if a strategy with several replicas does not mirror the variables.

    Raises:
        ValueError: One was created outside the strategy's scope.
        RuntimeError: The strategy is a ParameterServerStrategy.
    """
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise RuntimeError(
            "INNAprop needs a strategy with synchronous updates, got "
            f"{type(strategy).__name__}: its workers would update a variable, its state and its "
            "count asynchronously; use MultiWorkerMirroredStrategy"
        )
    if strategy.num_replicas_in_sync == 1:
        return
    for variable in variables:
        if not isinstance(variable, tf.distribute.DistributedValues):
            raise ValueError(
                f"variables must be created under the scope of {type(strategy).__name__}, got "
                f"{variable.name}, which was not"
            )


def once(
    function: Callable[[list[Any]], None],
    gradients: list[Any],
    variables: list[Any],
    dense: Callable[[Any, Any], Any],
) -> None:
    """Call a function once, in cross-replica context, with gradients summed over all replicas.

    Args:
        function: Takes the gradients.
        gradients: In a replica context, this replica's gradients; otherwise the total gradients,
            or per-replica values.
        variables: Their variables.
        dense: Converts a gradient of a variable to a dense tensor, which can be summed.
    """
    pairs = list(zip(gradients, variables, strict=True))
    if not tf.distribute.has_strategy():
        with scope_of(variables[0]):
            function([_whole(*pair, dense) for pair in pairs])
    elif tf.distribute.in_cross_replica_context():
        function([_whole(*pair, dense) for pair in pairs])
    else:
        replica = tf.distribute.get_replica_context()
        # The same object on all replicas would not be treated as a per-replica value.
        own = [tf.identity(dense(*pair)) for pair in pairs]
        summed = replica.all_reduce(tf.distribute.ReduceOp.SUM, own)
        replica.merge_call(_unconverted(lambda _, grads: function(grads)), args=(summed,))


def _whole(gradient: Any, variable: Any, dense: Callable[[Any, Any], Any]) -> Any:
    if not isinstance(gradient, tf.distribute.DistributedValues):
        return dense(gradient, variable)
    strategy = tf.distribute.get_strategy()
    shares = strategy.run(_unconverted(lambda share: dense(share, variable)), args=(gradient,))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, shares, axis=None)


def on_each_replica(function: Callable[..., None], variable: Any, *args: Any) -> None:
    """Call a function with a variable and its state on every replica."""
    if tf.distribute.has_strategy():
        tf.distribute.get_strategy().extended.update(
            variable, _unconverted(function), args=args, group=False
        )
    else:
        function(variable, *args)
