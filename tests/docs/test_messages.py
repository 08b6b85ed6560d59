"""The messages that the start page explains are those that the code gives."""

import re

import pytest
import tensorflow as tf
import torch

import innaprop.tensorflow
import innaprop.torch

from .pages import DOCS


def _torch_weight(**options):
    return innaprop.torch.INNAprop([torch.nn.Parameter(torch.ones(2))], **options)


def _integer():
    innaprop.torch.INNAprop([torch.ones(2, dtype=torch.int32)])


def _integer_variable():
    innaprop.tensorflow.INNAprop().build([tf.Variable([1], dtype=tf.int32, name="w")])


def _sparse():
    embedding = torch.nn.Embedding(3, 2, sparse=True)
    embedding(torch.tensor([0])).sum().backward()
    innaprop.torch.INNAprop(embedding.parameters()).step()


def _one_without_gradient():
    w, x = tf.Variable([1.0], name="w"), tf.Variable([1.0])
    with pytest.warns(UserWarning, match="no gradient") as warnings:
        innaprop.tensorflow.INNAprop().apply_gradients([(None, w), (tf.ones(1), x)])
    raise warnings[0].message


def _no_gradient():
    innaprop.tensorflow.INNAprop().apply_gradients([(None, tf.Variable([1.0]))])


def _step_as_long_as_beta():
    p = torch.nn.Parameter(torch.ones(1))
    innaprop.torch.INNAprop([p], lr=1.0).step()


def _set_a_callable():
    innaprop.tensorflow.INNAprop(learning_rate=lambda k: 1e-3).learning_rate = 1e-4


CASES = {
    "lr must be smaller than beta, got ...": _step_as_long_as_beta,
    "params must be float32, float64, bfloat16, float16, complex64 or ...": _integer,
    "variables must be float32, float64, bfloat16 or float16, got w:0 of int32": _integer_variable,
    "INNAprop needs dense gradients, got one of layout torch.sparse_coo; ...": _sparse,
    "lr must be a finite number >= 0, got ...": lambda: _torch_weight(lr=float("nan")),
    "no gradient for w:0: left as they are": _one_without_gradient,
    "grads_and_vars must hold a gradient, got none for any of ...": _no_gradient,
    "learning_rate was given as a callable and cannot be set, ...": _set_a_callable,
}


def test_no_other_message_is_explained():
    section = (DOCS / "start.md").read_text(encoding="utf-8").partition("## Messages")[2]
    assert re.findall(r"^`(.+)`\n: ", section, re.MULTILINE) == list(CASES)


@pytest.mark.parametrize("message", CASES)
def test_message(message):
    with pytest.raises((TypeError, ValueError, RuntimeError, UserWarning)) as raised:
        CASES[message]()
    assert str(raised.value).startswith(message.removesuffix("..."))
