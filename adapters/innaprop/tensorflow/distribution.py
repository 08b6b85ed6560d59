"""Updates under a ``tf.distribute`` strategy: made once for all replicas, on each of them."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from innaprop.tensorflow.slots import scope_of

_unconverted = tf.autograph.experimental.do_not_convert


def check_placement(variables: Sequence[Any]) -> None:
    """Refuse variables of which a strategy with several replicas keeps one value only.

    Raises:
        ValueError: One was created outside of the strategy's scope.
        RuntimeError: The strategy is a ParameterServerStrategy.
    """
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise RuntimeError(
            "INNAprop needs a strategy whose replicas make each update together, got "
            f"{type(strategy).__name__}: its workers would update a variable, its state and its "
            "count one after another, unsynchronized; take MultiWorkerMirroredStrategy"
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
        gradients: This replica's, where the caller is in a replica context; otherwise the whole
            gradients, or their shares per replica.
        variables: Where they belong.
        dense: Makes a gradient, of a variable, a tensor that can be summed.
    """
    pairs = list(zip(gradients, variables, strict=True))
    if not tf.distribute.has_strategy():
        with scope_of(variables[0]):
            function([_whole(*pair, dense) for pair in pairs])
    elif tf.distribute.in_cross_replica_context():
        function([_whole(*pair, dense) for pair in pairs])
    else:
        replica = tf.distribute.get_replica_context()
        # What is the same object on all replicas would not be taken for a share of each.
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
    """Call a function with a variable, wherever that is placed, and what belongs to it there."""
    if tf.distribute.has_strategy():
        tf.distribute.get_strategy().extended.update(
            variable, _unconverted(function), args=args, group=False
        )
    else:
        function(variable, *args)
