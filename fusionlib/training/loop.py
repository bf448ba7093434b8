"""The training loop: phases, epochs, one step, and the line that each epoch leaves in the log."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pandas as pd
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib import images, losses, runs
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.networks import save_checkpoint
from fusionlib.networks.mixture import MixtureOfExperts, prefers_gathered
from fusionlib.networks.moe_fusion import MoEFusionOutput
from fusionlib.training import distributed, samples
from fusionlib.training.config import TrainingConfig, open_pairs
from fusionlib.training.model import UNIFORM, Model, attention_maps, box_ap, load
from fusionlib.training.optimization import (
    Phase,
    parameter_groups,
    phases,
    rate_factor,
    schedule_rates,
)
from fusionlib.training.progress import Progress, stop_on_signals


# radon C: the whole course of a training stands here once, in named steps
def train(
    settings: TrainingConfig,
    folder: str | os.PathLike,
    pairs: Sequence[Pair] | None = None,
    held_out: Sequence[Pair] | None = None,
    *,
    device: str = "auto",
    maps: list[Tensor] | None = None,
    processes: int = 1,
    progress: bool = True,
) -> Model:
    """Train, or go on where an earlier call for this folder stopped, and return the model.

    Parameters
    ----------
    settings : TrainingConfig
    folder : path
        Belongs to this training alone; a finished one is returned at once.
    pairs, held_out : sequence of Pair, optional
        To train on, and to measure the box AP on; by default what ``settings`` name.
    device : str
        "auto", "cpu" or "cuda".
    maps : list of (2, h, w), optional
        :func:`attention_maps` of the pairs, where several trainings share frozen detectors.
    processes : int
        That share each batch, one a GPU; 0 for as many as there are GPUs. Under torchrun leave 1.
    progress : bool
        Show bars.

    Raises
    ------
    ValueError
        The folder holds another training, or a damaged one; no boxes of the kind described; images
        that cannot be a batch; one sentence each.
    RuntimeError
        Somebody else is training in this folder.
    OSError
        A checkpoint cannot be written; the one before stays.
    FloatingPointError
        The loss is not finite.
    KeyboardInterrupt
        Ctrl-C or a request to terminate: the step is finished and saved first; call again to go on.
    """
    processes = distributed.count(processes, device)
    rank, world = distributed.rank_and_world()
    target = torch.device(runs.device_name(device))
    check_feasible(settings, target, max(world, processes))
    pairs = open_pairs(settings) if pairs is None else pairs
    held_out = open_pairs(settings, held_out=True) if held_out is None else held_out
    if not len(pairs):
        raise ValueError("pairs: expected at least one pair to train on, got none")
    if processes > 1:
        # as arrays: tensors would be sent as open files
        arrays = None if maps is None else [pair.numpy() for pair in maps]
        options = settings, os.fspath(folder), pairs, held_out, device, arrays, progress
        distributed.run_together(_train_as_process, options, processes, device)
        return load(folder, device)
    folder, show = Path(folder), progress and rank == 0
    attention, note = attention_source(settings, pairs)
    if note and rank == 0:
        tqdm.write(note)
    with (
        runs.lock(folder, str(folder)) if rank == 0 else contextlib.nullcontext(),
        stop_on_signals() as stop_requested,
    ):
        if rank == 0:
            images.sweep(folder)
        model = Model(settings, attention).to(target)
        backbones = load_pretrained(model, settings)
        trainer = Trainer(model, folder, fingerprint(pairs), stop_requested, show)
        for phase in phases(settings.optimization, attention):
            if phase.end > trainer.progress.epoch:
                if phase.name == "frozen" and maps is None:
                    bar = tqdm(pairs, "attention", disable=not show, leave=False)
                    maps = attention_maps(model, bar)
                trainer.run_phase(phase, pairs, held_out, maps)
        model.record = describe(trainer, attention) | {"note": note, "backbones": backbones}
        if rank == 0:
            save_model(folder / "model.safetensors", model)
            if settings.run.compile:  # the compiled one is built for batches of training
                return load(folder, device)
    return model.eval()


def _train_as_process(settings, folder, pairs, held_out, device, arrays, progress) -> None:
    maps = None if arrays is None else [torch.from_numpy(array) for array in arrays]
    train(settings, folder, pairs, held_out, device=device, maps=maps, progress=progress)


def check_feasible(settings: TrainingConfig, device: torch.device, processes: int) -> None:
    """Raise ValueError for a batch that cannot be shared or a precision the device lacks.

    Parameters
    ----------
    settings : TrainingConfig
    device : torch.device
    processes : int
        That share each batch.
    """
    if settings.optimization.batch % processes:
        raise ValueError(
            f"batch: expected a multiple of the {processes} processes, got"
            f" {settings.optimization.batch}"
        )
    if device.type == "cpu" and settings.run.precision == "float16":
        raise ValueError("precision: 'float16' expects a GPU, got cpu; use float32 or bfloat16")


def attention_source(settings: TrainingConfig, pairs: Sequence[Pair]) -> tuple[str, str]:
    """Return where the attention comes from, and a sentence where that is not what was asked
    for.
    """
    wanted, earlier = settings.detectors.attention, settings.detectors.checkpoint
    if wanted == "uniform" or pairs[0].boxes is not None:
        return wanted, ""
    lack = f"{'pairs' if settings.data.generated else settings.data.title}: no boxes"
    if earlier:
        kept = f"{lack}, so the detectors of {earlier} are used as they are"
        return "frozen", kept if wanted == "joint" else ""
    return (
        "uniform",
        f"{lack}, so no detector is trained, and the attention is {UNIFORM} everywhere",
    )


def load_pretrained(model: Model, settings: TrainingConfig) -> dict | str:
    """Fill in what is not trained from scratch; return what that was."""
    if model.detectors is not None and settings.detectors.checkpoint:
        earlier = load(settings.detectors.checkpoint, "cpu").trained_detectors()
        model.detectors.load_state_dict(earlier.state_dict())
        return {"detectors": settings.detectors.checkpoint}
    if model.detectors is not None and settings.detectors.imagenet:
        return model.detectors.load_pretrained(settings.detectors.imagenet)
    return "from scratch"


def fingerprint(pairs: Sequence[Pair]) -> dict:
    """Return number and hashed names of the pairs, by which a checkpoint knows its data again."""
    names = getattr(pairs, "names", None) or [pair.name for pair in pairs]
    return {
        "pairs": len(pairs),
        "names": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
    }


def save_model(path: Path, model: Model) -> None:
    """Write the finished model and its record; OSError where that fails."""
    try:
        save_checkpoint(path, model, model.record)
    except SafetensorError as error:
        raise OSError(f"{path}: cannot be written ({error})") from None


SECONDS = ("seconds", "data_seconds", "step_seconds")


class Trainer:
    """One process of a training: model, optimiser and progress, and the way through its phases.

    Parameters
    ----------
    model : Model
        On its device; it brings the settings.
    folder : path
        Of ``state.pt`` and ``log.csv``; a checkpoint there is gone on from.
    data : dict
        From :func:`fingerprint`.
    stop_requested : Event
        Set where the training is to end after the step.
    show : bool
        Show bars.
    """

    def __init__(
        self, model: Model, folder: Path, data: dict, stop_requested: threading.Event, show: bool
    ):
        self.model, self.folder, self.show = model, folder, show
        self.settings, self.stop_requested = model.settings, stop_requested
        self.device = next(model.parameters()).device
        recipe, run = self.settings.optimization, self.settings.run
        if run.compile:
            model.fusion.compile()
        groups = parameter_groups(model, recipe)
        rates = [group["lr"] for group in groups]
        self.optimizer = torch.optim.Adam(groups, weight_decay=recipe.weight_decay)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=run.precision == "float16")
        stateful = {"model": model, "optimizer": self.optimizer, "scaler": self.scaler}
        self.progress = Progress(folder / "state.pt", self.settings, data, stateful)
        self.progress.resume()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = rate  # what the schedule multiplies
        self.rank, self.world = distributed.rank_and_world()

    def run_phase(
        self,
        phase: Phase,
        pairs: Sequence[Pair],
        held_out: Sequence[Pair],
        maps: list[Tensor] | None,
    ) -> None:
        """Train the remaining epochs of a phase, each with its line in the log.

        Parameters
        ----------
        phase : Phase
        pairs, held_out : sequence of Pair
            To train on, and to measure the box AP on.
        maps : list of (2, h, w), optional
            Attention maps of the pairs for a phase with frozen detectors.
        """
        annotated = phase.name in ("detectors", "joint")
        dataset = samples.Samples(
            pairs,
            self.settings.data.classes,
            annotated=annotated,
            flip=self.settings.data.flip,
            colour=self.settings.network.visible_channels == 3,
            crop=None if phase.name == "detectors" else self.settings.data.crop,
            maps=maps if phase.name == "frozen" else None,
            augmented=self.settings.augmentation,
        )
        schedule: list[list] = []  # of the epoch; one loader, so its workers stay for all epochs
        loader = samples.make_loader(dataset, schedule, self.settings.run.workers, self.device)
        recipe, progress = self.settings.optimization, self.progress
        for epoch in range(progress.epoch, phase.end):
            batches = samples.batch_schedule(
                pairs, recipe.batch, recipe.repeat, self.settings.run.seed, epoch
            )
            share = recipe.batch // self.world
            mine = slice(self.rank * share, (self.rank + 1) * share)
            schedule[:] = [batch[mine] for batch in batches[progress.step :]]
            self.run_epoch(phase, loader, len(batches))
            row = self.log_row(phase, len(batches))
            last = epoch + 1 == phase.end
            if annotated and (last or (epoch + 1) % self.settings.run.ap_every == 0):
                row |= box_ap(self.model, held_out)
            progress.history.append(row)
            progress.epoch, progress.step, progress.sums = epoch + 1, 0, {}
            if self.rank == 0:
                # The log first: killed in between, the epoch is trained again and logged anew. The
                # other way round a finished training would lack its last line for good.
                text = pd.DataFrame(progress.history).to_csv(index=False)
                images.write_text(self.folder / "log.csv", text)
                progress.save()

    def run_epoch(self, phase: Phase, loader: torch.utils.data.DataLoader, steps: int) -> None:
        """Take the remaining steps of an epoch; stop, and save, where that is requested.

        Parameters
        ----------
        phase : Phase
        loader : DataLoader
            Of the remaining batches.
        steps : int
            Of the whole epoch.
        """
        progress, save_every = self.progress, self.settings.run.save_every
        done = (progress.epoch - phase.first) * steps + progress.step
        recipe = self.settings.optimization
        rates = schedule_rates(self.optimizer, recipe, phase, done, steps)
        title = f"epoch {progress.epoch + 1}/{phase.end} {phase.name}"
        self.model.train()
        ended = waiting = time.perf_counter()
        with tqdm(
            loader,
            title,
            steps,
            initial=progress.step,
            disable=not self.show,
            leave=False,
            mininterval=1,
        ) as bar:
            for batch in bar:
                arrived = time.perf_counter()
                values = self.take_step(batch, phase.name)
                rates.step()
                values |= {"stop": float(self.stop_requested.is_set())}
                values = distributed.mean(values, self.device)
                stop = values.pop("stop") > 0
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                last, ended = ended, time.perf_counter()
                values["seconds"] = ended - last
                values["data_seconds"] = arrived - waiting
                values["step_seconds"] = ended - arrived
                self.note(values)
                bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
                if self.rank == 0 and (stop or (save_every and progress.step % save_every == 0)):
                    progress.save()
                if stop:
                    raise KeyboardInterrupt(
                        f"{self.position()}: stopped as asked; all is saved, train again to go on"
                    )
                waiting = time.perf_counter()

    def take_step(self, batch: dict, phase: str) -> dict[str, float]:
        """Take one step of the optimiser; return what the log keeps of it."""
        run, clip = self.settings.run, self.settings.optimization.clip
        precision = getattr(torch, run.precision)
        with torch.autocast(self.device.type, precision, run.precision != "float32"):
            loss, logged = step_loss(self.model, batch, phase, self.settings)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        drop_unused_gradients(self.model)
        distributed.average_gradients(self.model)
        if clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return logged

    def note(self, values: dict[str, float]) -> None:
        """Count the step and add up its values; FloatingPointError for a loss that is not
        finite.
        """
        self.progress.step += 1
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(
                f"{self.position()}: the loss is not finite; the last checkpoint stays; try a"
                " smaller lr, clip, or precision 'float32'"
            )
        sums = self.progress.sums
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value

    def position(self) -> str:
        """Return where the training stands, for a message."""
        return f"{self.folder}: epoch {self.progress.epoch + 1}, step {self.progress.step}"

    def log_row(self, phase: Phase, steps: int) -> dict:
        """Return the log's line of an epoch: means over its steps, and what it took.

        Returns
        -------
        dict
            ``seconds`` by the wall clock, ``data_seconds`` of them waiting for batches,
            ``step_seconds`` computing, ``images_per_second`` by the wall clock, and on a GPU
            ``memory_mib``, the most it held.
        """
        sums, recipe, epoch = self.progress.sums, self.settings.optimization, self.progress.epoch
        last = (epoch - phase.first + 1) * steps - 1
        lr = self.optimizer.param_groups[0]["initial_lr"] * rate_factor(recipe, phase, last, steps)
        row = {"epoch": epoch + 1, "phase": phase.name, "lr": lr}
        for name in [name for name in sums if name not in SECONDS]:
            row[name] = sums[name] / self.progress.step
        row |= {name: sums.get(name, 0.0) for name in SECONDS}
        row["images_per_second"] = steps * recipe.batch / sums["seconds"]
        if self.device.type == "cuda":
            row["memory_mib"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        return row


def describe(trainer: Trainer, attention: str) -> dict:
    """Return the record of a finished training: settings, attention, epochs, data, machine."""
    return {
        "settings": trainer.settings.to_dict(),
        "attention": attention,
        "epochs": trainer.progress.epoch,
        "data": trainer.progress.data,
        "device": str(trainer.device),
        "environment": runs.environment(),
    }


# radon C: experts of all mixtures, those without gradients left out
def drop_unused_gradients(model: Model) -> None:
    """Take the zeros off experts that no image of the batch chose, which gathered kernels leave as
    gradients.

    So the optimiser leaves these experts alone, on a GPU as on a processor.
    """
    touched = []
    for mixture in model.fusion.modules():
        if isinstance(mixture, MixtureOfExperts):
            for expert in mixture.experts:
                gradient = [*expert.parameters()][-1].grad  # of the last layer's bias
                if gradient is not None:
                    touched.append((expert, gradient))
    if not touched or not (model.settings.run.compile or prefers_gathered(touched[0][1])):
        return
    used = torch.stack([gradient.any() for _, gradient in touched]).tolist()
    for (module, _), any_image in zip(touched, used, strict=True):
        if not any_image:
            module.zero_grad()


# radon C: four phases, of which each adds other terms
def step_loss(
    model: Model, batch: dict, phase: str, settings: TrainingConfig
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a step and what the log keeps of it.

    Parameters
    ----------
    batch : dict
        From :func:`fusionlib.training.samples.collate`.
    phase : "detectors", "joint", "frozen" or "uniform"
    settings : TrainingConfig
    """
    device = next(model.parameters()).device
    planes = batch["planes"].to(device, non_blocking=True)
    generators = [samples.noise(key) for key in batch["key"]]
    infrared, visible = planes[:, :1], planes[:, 1:2]
    targets = [{n: value.to(device) for n, value in t.items()} for t in batch["target"]]
    total = planes.new_zeros(())
    logged: dict[str, Tensor] = {}
    if phase in ("detectors", "joint"):
        detection, maps = model.trained_detectors()(infrared, visible, targets, generators)
        # Cao, section 3.4: end-to-end through L_fusion, L_det^V and L_det^I; the maps enter the
        # fusion detached.
        total = total + sum(detection.values())
        logged |= {f"detection_{name}": value for name, value in detection.items()}
    elif phase == "frozen":
        maps = planes[:, -2:]
    else:
        maps = torch.full_like(planes[:, :2], UNIFORM)
    if phase != "detectors":
        colour = settings.network.visible_channels == 3
        encoded = planes[:, 2:5] if colour else visible
        out = model.fusion(infrared, encoded, maps, generator=generators)
        boxes = [target["boxes"] for target in targets]
        loss = fusion_loss(out, infrared, visible, boxes, settings)
        total = total + loss.total
        logged |= {"fusion": loss.total, **loss._asdict(), **gate_use(out)}
        del logged["total"]
        if not settings.optimization.range_loss:
            del logged["range"]
    logged = {"loss": total} | logged
    # one transfer for all
    numbers = torch.stack([value.detach().double() for value in logged.values()]).tolist()
    return total, dict(zip(logged, numbers, strict=True))


def fusion_loss(
    out: MoEFusionOutput,
    infrared: Tensor,
    visible: Tensor,
    boxes: list[Tensor],
    settings: TrainingConfig,
) -> losses.FusionLoss:
    """Return equation (5) of a batch as the settings weight it.

    Parameters
    ----------
    out : MoEFusionOutput
    infrared, visible : (B, 1, H, W)
        In [0, 1].
    boxes : list of (n, 4)
        Objects of each image, corners in pixels.
    settings : TrainingConfig
    """
    recipe = settings.optimization
    return losses.fusion_loss(
        cast(Tensor, out.fused).float(),
        infrared,
        visible,
        out.loads,
        out.importances,
        boxes,
        reading=settings.network.reading,
        alpha=recipe.alpha,
        pixel_reading=recipe.pixel_loss,
        balance_importance=recipe.importance_loss,
        gradient=recipe.gradient,
        range_weight=recipe.range_loss,
    )


def gate_use(out: MoEFusionOutput) -> dict[str, Tensor]:
    """Return how often each gate chose each expert, its entropy in nats, and the visible experts'
    share of a local one.
    """
    use: dict[str, Tensor] = {}
    single_modality = out.single_modality()
    for name, gate in out.gates.items():
        shares = (gate > 0).double().mean(dim=0)
        use |= {f"{name}_load_{i}": share for i, share in enumerate(shares)}
        use[f"{name}_entropy"] = torch.special.entr(gate).sum(dim=1).mean()
        if name in single_modality:
            use[f"{name}_visible"] = gate.chunk(2, dim=1)[0].sum(dim=1).mean()
            use[f"{name}_one_modality"] = single_modality[name].double().mean()
    return use
