"""A transformer small enough to train in a test: bidirectional, pre-norm, learned positions."""

import torch
from torch import nn
from torch.nn import functional


class TinyTransformer(nn.Module):
    """Logits [B, L, vocab_size] of token ids [B, L]; every token sees every other, or those that `sees` [B, L, L] says.

    Args:
        vocab_size: ids, the mask token included.
        length: longest row.
        width: of the residual stream.
        layers: how many.
        heads: attention heads; divides `width`.
    """

    def __init__(self, vocab_size: int, length: int, width: int = 64, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab_size)
        nn.init.zeros_(self.head.weight)  # so that training starts at ln(vocab_size) exactly
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: torch.Tensor, position_ids: torch.Tensor, sees: torch.Tensor | None = None) -> torch.Tensor:
        hidden = self.tokens(ids) + self.positions(position_ids)
        for block in self.blocks:
            hidden = block(hidden, sees)
        return self.head(self.norm(hidden))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: torch.Tensor, sees: torch.Tensor | None) -> torch.Tensor:
        batch, length, width = hidden.shape
        parts = self.attention(self.attention_norm(hidden)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mask = None if sees is None else sees[:, None]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        hidden = hidden + self.projection(mixed.transpose(1, 2).reshape(batch, length, width))
        return hidden + self.feed(self.feed_norm(hidden))


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each token, nats, [B, L]."""
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)


def llada_loss(per_token: torch.Tensor, batch: dict) -> torch.Tensor:
    """Σ w·CE / denominator."""
    return (per_token * batch["loss_weight"]).sum() / batch["denominator"]


def train(model: TinyTransformer, batches, *, learning_rate: float = 3e-3, input_field: str = "noisy") -> list[dict]:
    """One AdamW step a batch; returns for each the loss, and Σ cross-entropy and number of masked tokens, before it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    history = []
    for batch in batches:
        per_token = cross_entropy(model(batch[input_field], batch["position_ids"]), batch["labels"])
        loss = llada_loss(per_token, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        masked = per_token.detach()[batch["masked"]]
        history.append({"loss": loss.item(), "masked_sum": masked.sum().item(), "masked_tokens": masked.numel()})
    return history
