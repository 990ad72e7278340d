"""The Lightning module: the loss of a model, its optimizer, and its scores on dev."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import lightning
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch_geometric.data import Batch

from mnergraph.graph.collate import with_pair
from mnergraph.metrics.scores import score
from mnergraph.models.base import Tagger
from mnergraph.nn.heads.scheduled_sampling import EpochAware, ProgressAware
from mnergraph.training.config import OptimizerConfig
from mnergraph.training.precision import refuses_to_clip_fused

#: Name of the score by which the best checkpoint is chosen.
DEV_F1 = "dev_f1"


@dataclass(frozen=True)
class DecodedBatch:
    """What a model predicts of a batch.

    Attributes:
        gold: tags of every post.
        tags: predicted tags of every post.
        heads: (gold, predicted) of further heads, of the posts that have a gold value.
    """

    gold: list[list[str]]
    tags: list[list[str]]
    heads: dict[str, list[tuple[Any, Any]]]


class LitTagger(lightning.LightningModule):
    """A model in training.

    Args:
        model: the model.
        optimizer: learning rates, decay and schedule.
        batches: of an epoch; their number sets the length of warm-up and decay.
    """

    def __init__(self, model: Tagger, optimizer: OptimizerConfig, batches: Sized) -> None:
        super().__init__()
        self.model, self.optimizer_config, self.batches = model, optimizer, batches
        # Buffers are equal on all devices (ScheduledSampling) or constant. Broadcasting them before every batch
        # of dev, as DDP does, hangs where one device has a batch more than another.
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
            self, [name for name, _ in self.named_buffers()]
        )
        self._decoded: list[DecodedBatch] = []

    def on_train_start(self) -> None:
        # a checkpoint restores the rates and the weight decay that its run had, which may be other ones
        [optimizer], [schedule] = self.trainer.optimizers, self.trainer.lr_scheduler_configs
        rates = schedule.scheduler
        assert isinstance(rates, LambdaLR)
        groups = self._parameter_groups()
        rates.base_lrs = [own["lr"] for own in groups]
        for group, own, factor in zip(optimizer.param_groups, groups, rates.lr_lambdas, strict=True):
            group["initial_lr"], group["weight_decay"] = own["lr"], own["weight_decay"]
            group["lr"] = own["lr"] * factor(rates.last_epoch)

    def on_train_epoch_start(self) -> None:
        for layer in self.model.modules():
            if isinstance(layer, EpochAware):
                layer.on_epoch_start(self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        progress = min(1.0, self.trainer.global_step / max(1, self._num_steps()))
        for module in self.model.modules():
            if isinstance(module, ProgressAware):
                module.on_progress(progress)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        try:
            loss = self.model.loss(self.model(batch))
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss.item()}")
        except FloatingPointError as error:
            posts = ", ".join(repr(pair.id) for pair in with_pair(batch).pair)
            rates = ", ".join(f"{group['lr']:.2g}" for group in self.trainer.optimizers[0].param_groups)
            raise FloatingPointError(
                f"at step {self.global_step} (learning rates {rates}; posts {posts}) {error}. Try a smaller "
                "learning rate, trainer.lightning.gradient_clip_val=1, or full precision; features that are not finite "
                "do this too."
            ) from error
        self.log("loss", loss, prog_bar=True, batch_size=batch.num_graphs)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._decoded.append(decode_batch(self.model, batch))

    def on_validation_epoch_end(self) -> None:
        decoded = from_all_devices(self._decoded)
        self._decoded = []
        scores = score([tags for batch in decoded for tags in batch.gold], [t for batch in decoded for t in batch.tags])
        for name, metrics in self.model.head_metrics(batch.heads for batch in decoded).items():
            for metric, value in metrics.items():
                self.log(f"dev_{name}_{metric}", value, sync_dist=True)
        self.log(DEV_F1, scores.lenient.f1, prog_bar=True, sync_dist=True)
        self.log("dev_f1_strict", scores.strict.f1, sync_dist=True)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters in groups of the same part of the model and weight decay."""
        config = self.optimizer_config
        # without head_lr heads are of no group of their own, as in the checkpoints of runs that had none
        rates = {"encoder": config.encoder_lr, "head": config.head_lr, "rest": config.lr}
        heads = self.model.head_parameters() if config.head_lr is not None else []
        parts = {id(weight): "head" for weight in heads}
        parts |= {id(weight): "encoder" for weight in self.model.encoder_parameters()}
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for weight in self.model.parameters():
            groups.setdefault((parts.get(id(weight), "rest"), weight.dim() > 1), []).append(weight)
        return [
            {"params": weights, "lr": rates[part], "weight_decay": config.weight_decay if matrix else 0.0}
            for (part, matrix), weights in groups.items()
        ]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the optimizer's groups are those of the checkpoint.

        Raises:
            ValueError: when one has a learning rate of the heads and the other none.
        """
        there = [len(group["params"]) for group in checkpoint["optimizer_states"][0]["param_groups"]]
        here = [len(group["params"]) for group in self._parameter_groups()]
        if there != here:
            raise ValueError(
                f"the checkpoint has groups of {there} parameters, this run of {here}: one of them has head_lr, the "
                "other none; give the run's own"
            )

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self._parameter_groups(),
            fused=not (self.trainer.gradient_clip_val and refuses_to_clip_fused(self.trainer.precision_plugin)),
        )
        steps = self._num_steps()
        schedule = LambdaLR(optimizer, lambda step: self.optimizer_config.rate(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _num_steps(self) -> int:
        """Return the number of steps of the run."""
        # trainer.estimated_stepping_batches would set up the loader before a resumed run restores its position
        each = -(-len(self.batches) // self.trainer.accumulate_grad_batches)
        return each * (self.trainer.max_epochs or 1)


def decode_batch(model: Tagger, batch: Batch) -> DecodedBatch:
    """Return the gold and the predicted tags of every post of a batch, and what other heads predict."""
    graph = model(batch)
    gold = [list(pair.labels or ()) for pair in graph.data.pair]
    return DecodedBatch(gold, model.decode_tags(graph), model.decode_with_gold(graph))


def from_all_devices(own: list[Any]) -> list[Any]:
    """Return the lists of all devices, concatenated."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return [item for of_device in found for item in of_device]
