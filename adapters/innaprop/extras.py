"""What to install where a framework is missing."""

from types import TracebackType


class Extra:
    """An extra of this package, around the imports that need what it brings.

    Only the framework's own absence is explained: what fails inside a framework that is there is
    its own matter, and passes as it is.

    Args:
        name: The extra's name, and that of the module in ``innaprop`` that needs it.
        modules: The top-level modules that it brings. Default: one of the extra's name.
    """

    def __init__(self, name: str, modules: tuple[str, ...] = ()) -> None:
        self._name = name
        self._modules = modules or (name,)

    def __enter__(self) -> None:
        """Nothing is to be done yet."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say which extra brings the module that was not found.

        Raises:
            ModuleNotFoundError: It was one of the extra's.
        """
        if isinstance(error, ModuleNotFoundError) and error.name in self._modules:
            raise ModuleNotFoundError(
                f"innaprop.{self._name} needs {error.name}, which is not installed: "
                f'pip install "innaprop[{self._name}]"',
                name=error.name,
            ) from error
