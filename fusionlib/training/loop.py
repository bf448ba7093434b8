"""The loop: order of the steps, one step, checkpoints, stopping and going on."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib import images, losses, runs
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.detectors import load_imagenet
from fusionlib.networks import save_checkpoint
from fusionlib.networks.mixture import MixtureOfExperts, prefers_gathered
from fusionlib.networks.moe_fusion import MoEFusionOutput
from fusionlib.training import distributed
from fusionlib.training.model import UNIFORM, Model, attention_maps, box_ap, load
from fusionlib.training.samples import Samples, collate, noise, order
from fusionlib.training.settings import Settings, open_pairs


def train(
    settings: Settings,
    folder: str | os.PathLike,
    pairs: Sequence[Pair] | None = None,
    held_out: Sequence[Pair] | None = None,
    *,
    device: str = "auto",
    maps: list[Tensor] | None = None,
    progress: bool = True,
) -> Model:
    """Train, or go on where an earlier call for this folder stopped, and return the model.

    Parameters
    ----------
    settings : Settings
    folder : path
        Belongs to this training alone; a finished one is returned at once.
    pairs, held_out : sequence of Pair, optional
        To train on, and to measure the box AP on; by default what ``settings`` name.
    device : str
        "auto", "cpu" or "cuda".
    maps : list of tensors, optional
        :func:`attention_maps` of the pairs, where several trainings share frozen detectors.
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
    rank, world = distributed.rank_and_world()
    folder, place, show = (
        Path(folder),
        torch.device(runs.device_name(device)),
        progress and rank == 0,
    )
    if settings.batch % world:
        raise ValueError(
            f"batch: expected a multiple of the {world} processes, got {settings.batch}"
        )
    if place.type == "cpu" and settings.precision == "float16":
        raise ValueError("precision: 'float16' expects a GPU, got cpu; use float32 or bfloat16")
    pairs = open_pairs(settings) if pairs is None else pairs
    held_out = open_pairs(settings, held_out=True) if held_out is None else held_out
    if not len(pairs):
        raise ValueError("pairs: expected at least one pair to train on, got none")
    attention, note = _attention(settings, pairs)
    if note and rank == 0:
        tqdm.write(note)
    plan = ["detectors"] * (settings.detector_epochs if attention != "uniform" else 0) + [
        attention
    ] * settings.epochs
    names = getattr(pairs, "names", None) or [pair.name for pair in pairs]
    data = {
        "pairs": len(pairs),
        "names": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
    }
    with (
        runs.lock(folder, str(folder)) if rank == 0 else contextlib.nullcontext(),
        _stop_on_signals() as asked,
    ):
        model = Model(settings, attention).to(place)
        backbones = _start(model, settings)
        optimizer = torch.optim.Adam(_groups(model, settings), weight_decay=settings.weight_decay)
        scaler = torch.amp.GradScaler(place.type, enabled=settings.precision == "float16")
        parts = {"model": model, "optimizer": optimizer, "scaler": scaler}
        state = {
            "settings": settings.dict(False),
            "data": data,
            "epoch": 0,
            "step": 0,
            "sums": {},
            "history": [],
        }
        _resume(folder / "state.pt", state, parts)
        for epoch in range(state["epoch"], len(plan)):
            phase = plan[epoch]
            if phase == "frozen" and maps is None:
                maps = attention_maps(
                    model, tqdm(pairs, "attention", disable=not show, leave=False)
                )
            samples = Samples(
                pairs,
                settings.classes,
                annotated=phase in ("detectors", "joint"),
                flip=settings.flip,
                colour=settings.model.get("visible_channels") == 3,
                crop=None if phase == "detectors" else settings.crop,
                maps=maps if phase == "frozen" else None,
            )
            batches = order(len(pairs), settings.batch, settings.repeat, settings.seed, epoch)
            mine = slice(rank * settings.batch // world, (rank + 1) * settings.batch // world)
            loader = torch.utils.data.DataLoader(
                samples,
                batch_sampler=[batch[mine] for batch in batches[state["step"] :]],
                num_workers=settings.workers,
                # its own: else it would draw from the global one
                collate_fn=collate,
                generator=torch.Generator(),
            )
            bar = tqdm(
                loader,
                f"epoch {epoch + 1}/{len(plan)} {phase}",
                len(batches),
                initial=state["step"],
                disable=not show,
                leave=False,
                mininterval=1,
            )
            model.train()
            for batch in bar:
                started = time.perf_counter()
                _set_rate(optimizer, settings, epoch, state["step"], len(batches))
                seen = _step(model, optimizer, scaler, batch, phase, settings)
                seen = distributed.mean(seen | {"stop": float(asked.is_set())}, place)
                stop, state["step"] = seen.pop("stop") > 0, state["step"] + 1
                now = f"{folder}: epoch {epoch + 1}, step {state['step']}"
                if not math.isfinite(seen["loss"]):
                    raise FloatingPointError(
                        f"{now}: the loss is not finite; the last checkpoint stays; try a smaller "
                        "lr, clip, or precision 'float32'"
                    )
                for name, value in (seen | {"seconds": time.perf_counter() - started}).items():
                    state["sums"][name] = state["sums"].get(name, 0.0) + value
                bar.set_postfix(loss=f"{seen['loss']:.3f}", refresh=False)
                if rank == 0 and (
                    stop or (settings.save_every and state["step"] % settings.save_every == 0)
                ):
                    _save(folder / "state.pt", state, parts)
                if stop:
                    raise KeyboardInterrupt(
                        f"{now}: stopped as asked; all is saved, train again to go on"
                    )
            lr, shown = optimizer.param_groups[0]["lr"], len(batches) * settings.batch
            state["history"].append(_row(state, epoch, phase, lr, shown, place))
            last = epoch + 1 == len(plan) or plan[epoch + 1] != phase
            if phase in ("detectors", "joint") and (last or (epoch + 1) % settings.ap_every == 0):
                state["history"][-1] |= box_ap(model, held_out)
            state |= {"epoch": epoch + 1, "step": 0, "sums": {}}
            if rank == 0:
                _save(folder / "state.pt", state, parts)
                images.write_text(
                    folder / "log.csv", pd.DataFrame(state["history"]).to_csv(index=False)
                )
        model.record = {
            "settings": settings.dict(),
            "attention": attention,
            "note": note,
            "epochs": len(plan),
            "data": data,
            "backbones": backbones,
            "device": str(place),
            "environment": runs.environment(),
        }
        if rank == 0:
            try:
                save_checkpoint(folder / "model.safetensors", model, model.record)
            except SafetensorError as error:
                raise OSError(
                    f"{folder / 'model.safetensors'}: cannot be written ({error})"
                ) from None
    return model.eval()


def _step(
    model: Model,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batch: dict,
    phase: str,
    settings: Settings,
) -> dict[str, float]:
    """Take one step of the optimiser; return what the log keeps of it."""
    kind = next(model.parameters()).device.type
    with torch.autocast(kind, getattr(torch, settings.precision), settings.precision != "float32"):
        loss, seen = step_loss(model, batch, phase, settings)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    _drop_unused_gradients(model)
    distributed.average_gradients(model)
    if settings.clip is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    scaler.step(optimizer)
    scaler.update()
    return seen


def _drop_unused_gradients(model: Model) -> None:
    """Take the zeros off experts that no image of the batch chose, which gathered kernels leave as
    gradients.

    So the optimiser leaves these experts alone, on a GPU as on a processor.
    """
    mixtures = [part for part in model.fusion.modules() if isinstance(part, MixtureOfExperts)]
    experts = [expert for mixture in mixtures for expert in mixture.experts]
    experts = [expert for expert in experts if expert.layers[-1].bias.grad is not None]
    if not experts or not prefers_gathered(experts[0].layers[-1].bias):
        return
    used = torch.stack([expert.layers[-1].bias.grad.any() for expert in experts]).tolist()
    for expert in (
        expert for expert, any_image in zip(experts, used, strict=True) if not any_image
    ):
        for parameter in expert.parameters():
            parameter.grad = None


def step_loss(
    model: Model, batch: dict, phase: str, settings: Settings
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a step and what the log keeps of it.

    Parameters
    ----------
    batch : dict
        From :func:`fusionlib.training.samples.collate`.
    phase : "detectors", "joint", "frozen" or "uniform"
    """
    place = next(model.parameters()).device
    planes, draws = (
        batch["planes"].to(place, non_blocking=True),
        [noise(key) for key in batch["key"]],
    )
    infrared, visible = planes[:, :1], planes[:, 1:2]
    targets = [{name: value.to(place) for name, value in one.items()} for one in batch["target"]]
    total, seen = planes.new_zeros(()), {}
    if phase in ("detectors", "joint"):
        detection, maps = model.detectors(infrared, visible, targets, draws)
        # Cao, section 3.4: end-to-end through L_fusion, L_det^V and L_det^I; the maps enter the
        # fusion detached.
        total = total + sum(detection.values())
        seen |= {f"detection_{name}": value for name, value in detection.items()}
    elif phase == "frozen":
        maps = planes[:, -2:]
    else:
        maps = torch.full_like(planes[:, :2], UNIFORM)
    if phase != "detectors":
        colour = settings.model.get("visible_channels") == 3
        out = model.fusion(infrared, planes[:, 2:5] if colour else visible, maps, generator=draws)
        loss = losses.fusion_loss(
            out.fused.float(),
            infrared,
            visible,
            out.loads,
            out.importances,
            [one["boxes"] for one in targets],
            reading=model.fusion.config.reading,
            alpha=settings.alpha,
            pixel_reading=settings.pixel_loss or None,
            balance_importance=settings.importance_loss,
        )
        total = total + loss.total
        seen |= {"fusion": loss.total, **loss._asdict(), **_gate_use(out)}
        del seen["total"]
    seen = {"loss": total} | seen
    # one transfer for all
    numbers = torch.stack([value.detach().double() for value in seen.values()]).tolist()
    return total, dict(zip(seen, numbers, strict=True))


def _gate_use(out: MoEFusionOutput) -> dict[str, Tensor]:
    """Say how often each gate chose each expert, its entropy in nats, and the visible experts'
    share of a local one.
    """
    use, alone = {}, out.single_modality()
    for name, gate in out.gates.items():
        use |= {
            f"{name}_load_{i}": share for i, share in enumerate((gate > 0).double().mean(dim=0))
        }
        use[f"{name}_entropy"] = torch.special.entr(gate).sum(dim=1).mean()
        if name in alone:
            use[f"{name}_visible"] = gate.chunk(2, dim=1)[0].sum(dim=1).mean()
            use[f"{name}_one_modality"] = alone[name].double().mean()
    return use


def _attention(settings: Settings, pairs: Sequence[Pair]) -> tuple[str, str]:
    """Return where the attention comes from, and a sentence where that is not what was asked
    for.
    """
    if settings.attention == "uniform" or pairs[0].boxes is not None:
        return settings.attention, ""
    where = f"{settings.data or 'pairs'}: no boxes"
    if settings.detectors_from:
        kept = f"{where}, so the detectors of {settings.detectors_from} are used as they are"
        return "frozen", kept if settings.attention == "joint" else ""
    return (
        "uniform",
        f"{where}, so no detector is trained, and the attention is {UNIFORM} everywhere",
    )


def _groups(model: Model, settings: Settings) -> list[dict]:
    """Return the optimiser's groups: the fusion network, its gates, its Att, the detectors, their
    attention.
    """
    groups: dict[str, list] = {
        "fusion": [],
        "gates": [],
        "Att": [],
        "detectors": [],
        "attention": [],
    }
    for name, parameter in model.fusion.named_parameters():
        group = (
            "gates"
            if ".gate." in name
            else "Att"
            if name.startswith("attention_fusion.")
            else "fusion"
        )
        groups[group].append(parameter)
    for name, parameter in [] if model.detectors is None else model.detectors.named_parameters():
        groups["attention" if ".attention." in name else "detectors"].append(parameter)
    given = {
        "gates": settings.gate_lr,
        "Att": settings.att_lr,
        "detectors": settings.detector_lr,
        "attention": (
            settings.detector_lr if settings.attention_lr is None else settings.attention_lr
        ),
    }
    return [
        {"params": group, "base": settings.lr if given.get(name) is None else given[name]}
        for name, group in groups.items()
        if group
    ]


def _set_rate(
    optimizer: torch.optim.Optimizer, settings: Settings, epoch: int, step: int, steps: int
) -> None:
    """Set the learning rates of a step; each phase has its own course."""
    alone = epoch < settings.detector_epochs
    first, epochs = (
        (0, settings.detector_epochs) if alone else (settings.detector_epochs, settings.epochs)
    )
    done = (epoch - first) * steps + step
    factor = min(1.0, (done + 1) / max(settings.warm_up, 1))
    if settings.decay == "cosine":
        factor *= 0.05 + 0.95 * (1 + math.cos(math.pi * done / (epochs * steps))) / 2
    else:
        factor *= 0.1 ** sum(epoch - first >= at for at in settings.lr_steps)
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * factor


def _start(model: Model, settings: Settings) -> dict | str:
    """Fill in what is not trained from scratch; return what that was."""
    if model.detectors is not None and settings.detectors_from:
        model.detectors.load_state_dict(load(settings.detectors_from, "cpu").detectors.state_dict())
        return {"detectors": settings.detectors_from}
    if model.detectors is not None and settings.imagenet:
        return load_imagenet(model.detectors, settings.imagenet)
    return "from scratch"


# ---- stopping and going on -----------------------------------------------------------------------


def _save(path: Path, state: dict, parts: dict) -> None:
    # written at one go: PyTorch's own writer does not say so plainly when a disk is full
    content = io.BytesIO()
    torch.save(state | {name: part.state_dict() for name, part in parts.items()}, content)
    images.write_atomically(
        path, lambda temporary: Path(temporary).write_bytes(content.getbuffer())
    )


def _resume(path: Path, state: dict, parts: dict) -> None:
    """Continue from ``path`` where it exists: fill ``state`` and the parts."""
    if not path.exists():
        return
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        kept = {name: found[name] for name in (*state, *parts)}
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path}: expected the checkpoint of a training, it is truncated or damaged "
            f"({type(error).__name__}); remove it to train from the beginning"
        ) from None
    for name in ("settings", "data"):
        for key in state[name] | kept[name]:
            old, new = kept[name].get(key), state[name].get(key)
            if old != new:
                raise ValueError(
                    f"{path}: holds a training with {key} = {old!r}, asked for is {new!r}; use"
                    " another folder, or remove the file"
                )
    try:
        for name, part in parts.items():
            part.load_state_dict(kept.pop(name))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path}: holds a training of a network or an optimiser built otherwise, perhaps by"
            f" another version ({str(error).splitlines()[0]}); use another folder, or remove the"
            " file"
        ) from None
    state |= kept


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or a request to terminate sets; a second one interrupts at
    once.
    """
    asked = threading.Event()

    def note(number, frame):
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    main = threading.current_thread() is threading.main_thread()
    before = (
        {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        if main
        else {}
    )
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _row(state: dict, epoch: int, phase: str, lr: float, shown: int, place: torch.device) -> dict:
    """Return the log's line of an epoch: means over its steps, its time, and what it took of a
    GPU's memory.
    """
    means, seconds = (
        {name: value / state["step"] for name, value in state["sums"].items()},
        state["sums"]["seconds"],
    )
    row = {
        "epoch": epoch + 1,
        "phase": phase,
        "lr": lr,
        **means,
        "seconds": seconds,
        "images_per_second": shown / seconds,
    }
    return row | (
        {"memory_mib": torch.cuda.max_memory_allocated(place) / 2**20}
        if place.type == "cuda"
        else {}
    )
