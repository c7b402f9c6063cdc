"""What a rank of the Hugging Face example does in its test: train, then go on from an earlier checkpoint.

Run by torchrun: `trainer_ranks.py EXAMPLE RUN CHECKPOINTS FOUND`; what each rank saw goes to FOUND.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import TrainingArguments

#: Rows of a rank's micro-batch, steps, and micro-batches of a step.
SIZES = (3, 4, 2)


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("example", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(example: ModuleType, run: str, checkpoints: str, checkpoint: str | None) -> dict[str, Any]:
    """Rows that came to the model, step by step, and the weights in the end."""
    rows_a_batch, steps, accumulated = SIZES
    arguments = TrainingArguments(
        output_dir=checkpoints,
        max_steps=steps,
        per_device_train_batch_size=rows_a_batch,
        gradient_accumulation_steps=accumulated,
        ignore_data_skip=True,
        save_steps=2,
        save_total_limit=3,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        ddp_backend="gloo",
    )
    trainer = example.make_trainer(run, arguments, checkpoint)
    rows = []
    compute_loss = trainer.compute_loss

    def recording(model, inputs, *more, **fields):
        rows.append(inputs["rows"].tolist())
        return compute_loss(model, inputs, *more, **fields)

    trainer.compute_loss = recording
    trainer.train(resume_from_checkpoint=checkpoint)
    weights = [parameter.detach().sum(dtype=torch.float64).item() for parameter in trainer.model.parameters()]
    return {"rows": rows, "weights": weights}


def main() -> None:
    torch.set_num_threads(1)
    example, (run, checkpoints, found) = load(sys.argv[1]), sys.argv[2:]
    whole = trained(example, run, checkpoints, None)
    resumed = trained(example, run, checkpoints, f"{checkpoints}/checkpoint-2")
    told = {"ranks": int(os.environ["WORLD_SIZE"]), "sizes": SIZES, "whole": whole, "resumed": resumed}
    Path(found, f"{os.environ['RANK']}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
