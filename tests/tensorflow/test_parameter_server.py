"""ParameterServerStrategy, whose workers do not wait for each other, is refused by name."""

import subprocess
import sys

PROGRAM = """
import json
import socket

import tensorflow as tf

from innaprop.tensorflow import INNAprop

ports = []
for _ in range(2):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        ports.append(free.getsockname()[1])
places = [f"localhost:{port}" for port in ports]
cluster = tf.train.ClusterSpec({"worker": places[:1], "ps": places[1:]})
servers = [tf.distribute.Server(cluster, job_name=name, task_index=0) for name in ("worker", "ps")]
strategy = tf.distribute.ParameterServerStrategy(
    tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")
)
with strategy.scope():
    w = tf.Variable([1.0, 2.0])
    optimizer = INNAprop()
    try:
        optimizer.apply_gradients([(tf.ones(2), w)])
    except RuntimeError as error:
        print("refused:", error)
print("value:", w.numpy().tolist(), flush=True)
import os
os._exit(0)  # The servers have no end.
"""


def test_it_is_refused_and_nothing_has_changed():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "refused: INNAprop needs a strategy with synchronous updates" in (done.stdout)
    assert "use MultiWorkerMirroredStrategy" in done.stdout
    assert "value: [1.0, 2.0]" in done.stdout
