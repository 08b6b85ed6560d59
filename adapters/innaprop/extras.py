"""Tells which extra to install if a framework is missing."""

from types import TracebackType


class Extra:
    """A context manager around the imports that need an extra of this package.

    Only a missing framework is explained. Errors inside an installed framework pass unchanged.

    Args:
        name: Name of the extra, and of the module in ``innaprop`` that needs it.
        modules: The top-level modules that it installs. Default: one named like the extra.
    """

    def __init__(self, name: str, modules: tuple[str, ...] = ()) -> None:
        self._name = name
        self._modules = modules or (name,)

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say which extra installs the module that was not found.

        Raises:
            ModuleNotFoundError: The missing module is one of the extra's.
        """
        if isinstance(error, ModuleNotFoundError) and error.name in self._modules:
            raise ModuleNotFoundError(
                f"innaprop.{self._name} needs {error.name}, which is not installed: "
                f'pip install "innaprop[{self._name}]"',
                name=error.name,
            ) from error


class KerasBackend:
    """A context manager around the first import of Keras, which imports its backend."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say how to choose another backend, if the chosen one was not found.

        Raises:
            ModuleNotFoundError: Keras's backend is not installed.
        """
        if isinstance(error, ModuleNotFoundError) and error.name in ("tensorflow", "jax", "torch"):
            raise ModuleNotFoundError(
                f"Keras's backend is {error.name}, which is not installed: set the environment "
                "variable KERAS_BACKEND to tensorflow, jax or torch before Keras is imported, or "
                f'pip install "innaprop[{error.name}]"',
                name=error.name,
            ) from error
