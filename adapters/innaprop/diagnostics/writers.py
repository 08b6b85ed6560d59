"""Writers of records: CSV files and TensorBoard. W&B needs none of these."""

import csv
from os import PathLike
from pathlib import Path
from typing import Any


class CSV:
    """Write each record as a line of a CSV file, which is closed after every line.

    The columns are those of the first record, and the losses. An existing file is overwritten.

    Args:
        path: The file. Its folder must exist.

    Raises:
        FileNotFoundError: The folder does not exist.
    """

    _LOSSES = ("innaprop/training_loss", "innaprop/validation_loss")

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path)
        self._path.write_text("", encoding="utf-8")
        self._columns: list[str] = []

    def __call__(self, values: dict[str, float], step: int) -> None:
        """Write a line.

        Args:
            values: Numbers by name.
            step: Number of the update.
        """
        begins = not self._columns
        if begins:
            others = [name for name in values if name not in self._LOSSES]
            self._columns = ["step", *self._LOSSES, *others]
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="", extrasaction="ignore")
            if begins:
                writer.writeheader()
            writer.writerow({"step": step, **values})


class TensorBoard:
    """Pass records to a TensorBoard writer.

    Args:
        writer: An object with ``add_scalar(tag, value, step)``, such as
            ``torch.utils.tensorboard.SummaryWriter`` or tensorboardX's, or with
            ``scalar(tag, value, step)``, such as ``flax.metrics.tensorboard.SummaryWriter``. For
            TensorFlow's writers use ``innaprop.tensorflow.TensorBoard``.

    Raises:
        TypeError: The writer has neither.
    """

    def __init__(self, writer: Any) -> None:
        write = getattr(writer, "add_scalar", None) or getattr(writer, "scalar", None)
        if not callable(write):
            raise TypeError(f"writer must have add_scalar or scalar, got {writer!r}")
        self._write = write

    def __call__(self, values: dict[str, float], step: int) -> None:
        """Write one record.

        Args:
            values: Numbers by name.
            step: Number of the update.
        """
        for name, value in values.items():
            self._write(name, value, step)
