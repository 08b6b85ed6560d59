"""The tasks of supervised learning, made from a configuration."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from evidence.data.fetch import FOLDER
from evidence.data.images import Images, load_images
from evidence.data.texts import load_text, windows
from evidence.models.convolutional import densenet, resnet, vgg
from evidence.models.dense import mlp
from evidence.models.recurrent import Recurrent
from evidence.models.transformers import GPT, ViT
from evidence.store import Config
from evidence.training import Scores

EVALUATED = 512
"""Images, or windows of text, at a time where nothing is learnt."""


class Classifier:
    """Images in classes.

    Args:
        config: ``data``, ``side``, ``train`` (how many images are learnt from), ``classes``
            (which; all where it is missing), ``model`` and its ``shape``, ``batch``, ``seed``,
            ``device``, ``augment`` for flips and shifts, and ``squared`` for the squared error
            in place of the cross-entropy.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._device = torch.device(config.get("device", "cpu"))
        splits = load_images(config["data"], FOLDER, side=config["side"])
        some = tuple(config.get("classes", ()))
        parts = [part.only(some) if some else part for part in splits]
        self._train = _on(self._device, _first(parts[0], config["train"]))
        self._scored = {
            "validation": _on(self._device, _first(parts[1], config.get("held", 5000))),
            "test": _on(self._device, parts[2]),
        }
        pixels = self._train.pixels.float() / 255
        self._mean = pixels.mean((0, 2, 3), keepdim=True)
        self._spread = pixels.std((0, 2, 3), keepdim=True)
        del pixels
        torch.manual_seed(config["seed"])
        channels = self._train.pixels.shape[1]
        classes = len(some) or int(splits.train.labels.max()) + 1
        self.model = image_model(config, channels, classes).to(self._device)
        self._layout = torch.contiguous_format
        if config["model"] in ("vgg", "resnet", "densenet"):
            self._layout = torch.channels_last
            self.model.to(memory_format=self._layout)  # type: ignore[call-overload]
        self._rng = torch.Generator().manual_seed(config["seed"])
        self._order = torch.empty(0, dtype=torch.int64)

    def loss(self, step: int) -> Tensor:
        """Return the loss on the next batch."""
        return self.loss_on(self.next_batch())

    def next_batch(self) -> Tensor:
        """Return the numbers of the next images; every epoch has an order of its own."""
        size = self._config["batch"]
        if len(self._order) < size:
            self._order = torch.randperm(len(self._train.labels), generator=self._rng)
        chosen, self._order = self._order[:size], self._order[size:]
        moved: Tensor = chosen.to(self._device)
        return moved

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return training images as the network takes them, and their labels."""
        pixels = self._train.pixels[chosen]
        if self._config.get("augment"):
            pixels = self._augmented(pixels)
        return self._scaled(pixels), self._train.labels[chosen]

    def whole(self, split: str) -> tuple[Tensor, Tensor]:
        """Return all images of ``validation`` or ``test`` as the network takes them."""
        part = self._scored[split]
        return self._scaled(part.pixels), part.labels

    def loss_on(self, chosen: Tensor) -> Tensor:
        """Return the loss on some of the training images."""
        pixels, labels = self.batch(chosen)
        with _narrow(self._config):
            scores = self.model(pixels).float()
        if self._config.get("squared"):
            aim = nn.functional.one_hot(labels, scores.shape[1]).float()
            squared: Tensor = (scores - aim).square().sum(1).mean()
            return squared
        return nn.functional.cross_entropy(scores, labels)

    @torch.no_grad()
    def score(self, split: str) -> Scores:
        """Return loss and error in percent."""
        part = self._scored[split]
        loss, wrong = 0.0, 0
        self.model.eval()
        for pixels, labels in zip(
            part.pixels.split(EVALUATED), part.labels.split(EVALUATED), strict=True
        ):
            with _narrow(self._config):
                scores = self.model(self._scaled(pixels)).float()
            loss += nn.functional.cross_entropy(scores, labels, reduction="sum").item()
            wrong += int((scores.argmax(1) != labels).sum())
        self.model.train()
        return {"loss": loss / len(part.labels), "error": 100 * wrong / len(part.labels)}

    def _scaled(self, pixels: Tensor) -> Tensor:
        scaled = (pixels.float() / 255 - self._mean) / self._spread
        return scaled.contiguous(memory_format=self._layout)

    def _augmented(self, pixels: Tensor) -> Tensor:
        """Flip every other image, and shift each by up to four pixels."""
        count, channels, height, _ = pixels.shape
        flips = torch.rand(count, generator=self._rng) < 0.5
        shifts = torch.randint(9, (2, count, 1), generator=self._rng)
        rows, columns = (shifts + torch.arange(height)).unbind()
        columns = torch.where(flips[:, None], columns.flip(1), columns)
        rows, columns = rows.to(self._device), columns.to(self._device)
        padded = nn.functional.pad(pixels, (4, 4, 4, 4))
        images = torch.arange(count, device=self._device)
        return padded[
            images[:, None, None, None],
            torch.arange(channels, device=self._device)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]


def image_model(config: Config, channels: int, classes: int) -> nn.Module:
    """Return the network that ``model`` names, of the ``shape`` it says."""
    shape, side = config["shape"], config["side"]
    makers: dict[str, Callable[[], nn.Module]] = {
        "mlp": lambda: mlp(channels * side**2, classes, **shape),
        "vgg": lambda: vgg(channels, classes, **shape),
        "resnet": lambda: resnet(channels, classes, **shape),
        "densenet": lambda: densenet(channels, classes, **shape),
        "vit": lambda: ViT(channels, classes, side, **shape),
    }
    return makers[config["model"]]()


class Writer:
    """The next byte of a text.

    Args:
        config: ``data``, ``context``, ``batch``, ``model`` and its ``shape``, ``seed``,
            ``device``, ``held`` (windows that validation sees).
        model: One to go on with, in place of a new one.
    """

    def __init__(self, config: Config, model: nn.Module | None = None) -> None:
        self._config = config
        self._device = torch.device(config.get("device", "cpu"))
        text = load_text(config["data"], FOLDER)
        self._train, self._validation, self._test = (part.to(self._device) for part in text)
        torch.manual_seed(config["seed"])
        self.model = (model or text_model(config)).to(self._device)
        self._rng = torch.Generator().manual_seed(config["seed"])

    def loss(self, step: int) -> Tensor:
        """Return the cross-entropy on windows drawn anew."""
        length = self._config["context"] + 1
        starts = torch.randint(
            len(self._train) - length, (self._config["batch"],), generator=self._rng
        )
        rows = windows(self._train, starts.to(self._device), length)
        with _narrow(self._config):
            return self._cross_entropy(rows)

    @torch.no_grad()
    def score(self, split: str) -> Scores:
        """Return the loss on windows spread over the text; of the test text four times as many."""
        length = self._config["context"] + 1
        text, count = self._validation, self._config["held"]
        if split == "test":
            text, count = self._test, 4 * count
        starts = torch.linspace(0, len(text) - length - 1, count).long().to(self._device)
        self.model.eval()
        loss = 0.0
        at_once = self._config.get("at_once", 64)
        for some in starts.split(at_once):
            with _narrow(self._config):
                loss += self._cross_entropy(windows(text, some, length)).item() * len(some)
        self.model.train()
        return {"loss": loss / count}

    def _cross_entropy(self, rows: Tensor) -> Tensor:
        scores = self.model(rows[:, :-1])
        return nn.functional.cross_entropy(scores.flatten(0, 1).float(), rows[:, 1:].flatten())


def text_model(config: Config) -> nn.Module:
    """Return the network that ``model`` names, of the ``shape`` it says."""
    if config["model"] == "gpt":
        plain = config["optimizer"] == "sophia"
        return GPT(context=config["context"], plain=plain, **config["shape"])
    return Recurrent(config["model"], **config["shape"])


def weights_of(model: nn.Module) -> int:
    """Return how many weights a model has."""
    return sum(weight.numel() for weight in model.parameters())


def _first(images: Images, count: int) -> Images:
    return Images(images.pixels[:count], images.labels[:count])


def _on(device: torch.device, images: Images) -> Images:
    return Images(images.pixels.to(device), images.labels.to(device))


def _narrow(config: Config) -> torch.autocast:
    """Return bfloat16 where the configuration asks for it."""
    device = config.get("device", "cpu")
    return torch.autocast(device, torch.bfloat16, enabled=config.get("precision") == "bf16")
