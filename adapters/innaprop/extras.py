"""Context managers around imports, which tell what to install if a module is missing.

Only a missing module is explained. Errors inside an installed one pass unchanged.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


def extra(name: str, modules: tuple[str, ...] = ()) -> AbstractContextManager[None]:
    """Say which extra of this package installs a framework.

    Args:
        name: Name of the extra, and of the module in ``innaprop`` that needs it.
        modules: The top-level modules that it installs. Default: one named like the extra.
    """
    return _explained(
        modules or (name,),
        f"innaprop.{name} needs {{missing}}, which is not installed: "
        f'pip install "innaprop[{name}]"',
    )


def keras_backend() -> AbstractContextManager[None]:
    """Say how to choose another backend, around the first import of Keras, which imports one."""
    return _explained(
        ("tensorflow", "jax", "torch"),
        "Keras's backend is {missing}, which is not installed: set the environment variable "
        "KERAS_BACKEND to tensorflow, jax or torch before Keras is imported, or "
        'pip install "innaprop[{missing}]"',
    )


def state_files() -> AbstractContextManager[None]:
    """Say which extra installs what reads and writes the files of states."""
    return _explained(
        ("safetensors",),
        'states are safetensors files, which need {missing}: pip install "innaprop[state]"',
    )


def plotting() -> AbstractContextManager[None]:
    """Say that a figure needs matplotlib."""
    return _explained(
        ("matplotlib",), "a figure needs {missing}, which is not installed: pip install {missing}"
    )


@contextmanager
def _explained(modules: tuple[str, ...], message: str) -> Iterator[None]:
    """Explain that one of the modules is missing.

    Args:
        modules: Top-level modules.
        message: What to say; ``{missing}`` stands for the module's name.

    Raises:
        ModuleNotFoundError: One of the modules is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in modules:
            raise
        raise ModuleNotFoundError(message.format(missing=error.name), name=error.name) from error
