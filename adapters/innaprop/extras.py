"""Context managers around imports, which tell what to install if a module is missing.

Only a missing module is explained. Errors inside an installed one pass unchanged.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str, modules: tuple[str, ...] = ()) -> Iterator[None]:
    """Say which extra of this package installs a framework.

    Args:
        name: Name of the extra, and of the module in ``innaprop`` that needs it.
        modules: The top-level modules that it installs. Default: one named like the extra.

    Raises:
        ModuleNotFoundError: One of the modules is missing.
    """
    with _explained(
        modules or (name,),
        f"innaprop.{name} needs {{missing}}, which is not installed: "
        f'pip install "innaprop[{name}]"',
    ):
        yield


@contextmanager
def keras_backend() -> Iterator[None]:
    """Say how to choose another backend of Keras, around the first import of Keras.

    Keras imports its backend then.

    Raises:
        ModuleNotFoundError: Keras's backend is not installed.
    """
    with _explained(
        ("tensorflow", "jax", "torch"),
        "Keras's backend is {missing}, which is not installed: set the environment variable "
        "KERAS_BACKEND to tensorflow, jax or torch before Keras is imported, or "
        'pip install "innaprop[{missing}]"',
    ):
        yield


@contextmanager
def state_files() -> Iterator[None]:
    """Say which extra installs what reads and writes the files of states.

    Raises:
        ModuleNotFoundError: safetensors is not installed.
    """
    with _explained(
        ("safetensors",),
        'states are safetensors files, which need {missing}: pip install "innaprop[state]"',
    ):
        yield


@contextmanager
def plotting() -> Iterator[None]:
    """Say that a figure needs matplotlib.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    with _explained(
        ("matplotlib",), "a figure needs {missing}, which is not installed: pip install {missing}"
    ):
        yield


@contextmanager
def _explained(modules: tuple[str, ...], message: str) -> Iterator[None]:
    """Raise with ``message``, its {missing} filled in, if one of the modules is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in modules:
            raise
        raise ModuleNotFoundError(message.format(missing=error.name), name=error.name) from error
