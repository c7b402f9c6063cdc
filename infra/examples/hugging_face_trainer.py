"""Masked-diffusion training with Hugging Face's `Trainer` on a mixture, on any number of ranks.

    torchrun --nproc-per-node 8 hugging_face_trainer.py RUN CHECKPOINTS --steps 10000

Two habits of the Trainer's must go, since the loader has seen to both: Accelerate would give each rank a share of what
is its share already, and a resumed run would read all batches again that it had seen. Here the loader's batches reach
the model as they are, and each checkpoint holds the loader's state for the batch consumed last, from which any number
of ranks goes on. `per_device_train_batch_size` rows are a micro-batch; with gradient accumulation a step takes several.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from tokenmill.pipeline.loader import open_mixture
from tokenmill.pipeline.loader.torch_adapter import TorchBatches

LOADER_STATE = "loader.json"


class SaveLoaderState(TrainerCallback):
    """Puts the loader's state into each checkpoint."""

    def __init__(self) -> None:
        self.consumed: dict[str, Any] = {}

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Write the state of the batch consumed last: every rank's, but for corrupt data skipped (`merge_states`)."""
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir, f"checkpoint-{state.global_step}")
            (checkpoint / LOADER_STATE).write_text(json.dumps(self.consumed))


class MixtureTrainer(Trainer):
    """A `Trainer` that takes the loader's batches as they come."""

    def __init__(self, *, train_dataset: TorchBatches, **arguments: Any) -> None:
        self.loader_state = SaveLoaderState()
        super().__init__(train_dataset=train_dataset, callbacks=[self.loader_state], **arguments)

    def get_train_dataloader(self) -> Any:
        """The rank's own batches, kept from `accelerator.prepare`."""
        return DataLoader(self.train_dataset, batch_size=None, pin_memory=torch.cuda.is_available())

    def compute_loss(
        self, model: torch.nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Σ weight · CE over all ranks' tokens, by the denominator of all; ranks' gradients are averaged after it."""
        documents = (inputs["position_ids"].flatten() == 0).cumsum(0).view_as(inputs["noisy"])
        sees = documents[:, None, :, None] == documents[:, None, None, :]  # dense: real models take `mask_mod`
        outputs = model(input_ids=inputs["noisy"], position_ids=inputs["position_ids"], attention_mask=sees)
        per_token = functional.cross_entropy(
            outputs.logits.flatten(0, 1).float(), inputs["labels"].flatten(), reduction="none"
        )
        denominator = torch.tensor(float(inputs["denominator"]), device=per_token.device)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(denominator)
        loss = self.args.world_size * (per_token * inputs["loss_weight"].flatten()).sum() / denominator.clamp(min=1)
        self.loader_state.consumed = inputs["state"]
        return (loss, outputs) if return_outputs else loss


def make_trainer(run: str, arguments: TrainingArguments, checkpoint: str | None) -> MixtureTrainer:
    """A trainer of a small model on the run's mixture.

    Args:
        run: folder or URL of a run, or of one of its mixtures.
        arguments: with `max_steps`, since the batches have no length, and `ignore_data_skip`.
        checkpoint: folder of the checkpoint to go on from.
    """
    loader = open_mixture(
        run,
        batch_size=arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size,
        micro_batch_size=arguments.train_batch_size,
        dp_rank=arguments.process_index,
        dp_size=arguments.world_size,
    )
    batches = TorchBatches(loader)
    if checkpoint is not None:
        batches.load_state_dict(json.loads(Path(checkpoint, LOADER_STATE).read_text()))
    mixture = loader.plan.mixture
    config = BertConfig(
        vocab_size=mixture.vocab_size,
        max_position_embeddings=mixture.sequence_length,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(arguments.seed)
    return MixtureTrainer(model=BertForMaskedLM(config), args=arguments, train_dataset=batches)


def main() -> None:
    """Train, or go on from the newest checkpoint."""
    parser = argparse.ArgumentParser(description="Train a small masked-diffusion model on a mixture.")
    parser.add_argument("run", help="a run's folder or URL")
    parser.add_argument("checkpoints", help="folder to write to, and to go on from")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=8, help="of a micro-batch on each rank")
    asked = parser.parse_args()
    arguments = TrainingArguments(
        output_dir=asked.checkpoints,
        max_steps=asked.steps,
        per_device_train_batch_size=asked.rows,
        ignore_data_skip=True,
        save_steps=max(1, asked.steps // 2),
        logging_steps=max(1, asked.steps // 10),
        report_to="none",
    )
    checkpoint = get_last_checkpoint(asked.checkpoints) if Path(asked.checkpoints).is_dir() else None
    make_trainer(asked.run, arguments, checkpoint).train(resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    main()
