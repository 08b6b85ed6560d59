"""GRU and LSTM on bytes."""

from torch import Tensor, nn

from evidence.models.transformers import BYTES


class Recurrent(nn.Module):
    """An embedding, one recurrent layer, the scores of the next byte.

    Args:
        kind: ``gru`` or ``lstm``.
        width: Of the layer; the embedding has half of it.
    """

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
        self.embedding = nn.Embedding(BYTES, width // 2)
        self.layer = layer(width // 2, width, batch_first=True)
        self.head = nn.Linear(width, BYTES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of every next byte, of shape (batch, rows, bytes)."""
        out: Tensor = self.head(self.layer(self.embedding(x))[0])
        return out
