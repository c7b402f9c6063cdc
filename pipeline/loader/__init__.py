"""The trainer's side: open a mixture, get batches. Imports no Ray, no step, and torch in `torch_adapter` alone."""

from tokenmill.pipeline.loader.autoregressive import Autoregressive
from tokenmill.pipeline.loader.batch import (
    AutoregressiveBatch,
    Batch,
    BlockBatch,
    CanvasBatch,
    IlladaBatch,
    KeyedBatch,
    LladaSftBatch,
    MaskedBatch,
    PreferenceBatch,
    PromptBatch,
)
from tokenmill.pipeline.loader.block import Block
from tokenmill.pipeline.loader.canvas import Canvas
from tokenmill.pipeline.loader.dream import Dream
from tokenmill.pipeline.loader.illada import Illada
from tokenmill.pipeline.loader.llada import Llada
from tokenmill.pipeline.loader.llada_sft import LladaSft
from tokenmill.pipeline.loader.loader import Loader
from tokenmill.pipeline.loader.noise_levels import NoiseLevels
from tokenmill.pipeline.loader.opening import open_mixture
from tokenmill.pipeline.loader.order import Order, OrderedRows
from tokenmill.pipeline.loader.preference import Preference
from tokenmill.pipeline.loader.prompts import Prompts
from tokenmill.pipeline.loader.published import latest_mixture
from tokenmill.pipeline.loader.stages import Stage
from tokenmill.pipeline.loader.state import merge_states

__all__ = [
    "Autoregressive",
    "AutoregressiveBatch",
    "Batch",
    "Block",
    "BlockBatch",
    "Canvas",
    "CanvasBatch",
    "Dream",
    "Illada",
    "IlladaBatch",
    "KeyedBatch",
    "Llada",
    "LladaSft",
    "LladaSftBatch",
    "Loader",
    "MaskedBatch",
    "NoiseLevels",
    "Order",
    "OrderedRows",
    "Preference",
    "PreferenceBatch",
    "PromptBatch",
    "Prompts",
    "Stage",
    "latest_mixture",
    "merge_states",
    "open_mixture",
]
