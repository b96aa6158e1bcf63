"""Self-supervised pretraining on images: settings in, `last.ckpt` and `pretraining.json` out.

A finished run is not repeated; a killed one continues from its last checkpoint, and ends where the uninterrupted one
would have ended. What is written and how is in docs/formats.md, 2.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from d2_cxr import artifacts, precision
from d2_cxr.counted import counted
from d2_cxr.pretraining import settings as setting_rules
from d2_cxr.pretraining.data import EpochSampler, TwoViews, load_images, make_loader

logger = logging.getLogger(__name__)


def pretrain(config: Mapping, output: str | os.PathLike) -> Path:
    """Train a backbone without labels and return the path of its `last.ckpt`.

    Args:
        config: what differs from `settings.DEFAULTS`.
        output: folder of the run; holds last.ckpt, pretraining.json and tensorboard/.

    Raises:
        ValueError: a setting, a name or a file that cannot be used; a run of other settings in `output`.
        NotFiniteError: the loss is no longer a number; names the images of the batch.
    """
    output = Path(output)
    settings = setting_rules.complete(config)
    images = load_images(settings["datasets"], settings["sets"])
    identity = setting_rules.fingerprint(settings, images)

    def build(epochs: int):
        from d2_cxr.pretraining.method import build_method

        return build_method(settings, epochs)

    return run_once(settings, images, identity, output, build)


def run_once(settings: dict, images: Sequence[dict], identity: str, output: Path, build: Callable) -> Path:
    """Train what `build(epochs)` returns, unless it is finished; go on where a killed run stopped.

    Args:
        settings: complete settings.
        identity: fingerprint of what decides the result.
        build: returns a LightningModule with `encoder`, and the attributes that `method._OnImages` has.
    """
    checkpoint = output / "last.ckpt"
    if _is_finished(output, identity):
        logger.info("%s is finished already", output)
        return checkpoint
    _refuse_another_run(checkpoint, identity)
    with artifacts.only_one(output) if _rank() == 0 else contextlib.nullcontext():
        _train(settings, images, identity, output, build)
    return checkpoint


def _train(settings: dict, images: Sequence[dict], identity: str, output: Path, build: Callable) -> None:
    import pytorch_lightning as pl

    from d2_cxr.pretraining.callbacks import History, LastCheckpoint, Progress

    _quiet()
    accelerator, devices = _hardware(settings)
    sampler = EpochSampler(len(images), settings["batch_size"], settings["seed"], _rank(), devices)
    epochs = setting_rules.num_epochs(settings, len(sampler) * settings["batch_size"] * devices)
    pl.seed_everything(settings["seed"], verbose=False)
    method = build(epochs)
    initialized_from = _initialize(method, settings)
    number_format, reason = precision.choose(settings["precision"], "cuda" if accelerator == "gpu" else "cpu")
    method.uses_bfloat16 = number_format == "bf16"
    method.image_names = [image["image_name"] for image in images]
    method.card = make_card(settings, images, epochs, devices, initialized_from, identity)
    logger.info(
        "%s of %s on %s: %s of %s, %d views; %s (%s)",
        settings["method"], settings["backbone"],
        counted(len(images), "image"), counted(epochs, "epoch"), counted(len(sampler), "step"),
        2 * epochs * len(sampler) * settings["batch_size"] * devices, number_format, reason,
    )  # fmt: skip
    dataset = TwoViews(images, setting_rules.view_rules(settings), settings["seed"])
    loader = make_loader(dataset, sampler, _num_workers(settings, accelerator), pin_memory=accelerator == "gpu")
    history = History(settings["batch_size"] * devices)
    checkpoint = output / "last.ckpt"
    progress = Progress(epochs * len(sampler), settings["backbone"])
    callbacks = [history, progress, LastCheckpoint(checkpoint, settings["checkpoint_every"])]
    trainer = _trainer(output, epochs, accelerator, devices, callbacks)
    resumed = str(checkpoint) if checkpoint.is_file() else None
    if resumed:
        logger.info("continuing from %s", checkpoint)
        sampler.set_epoch(_epochs_done(checkpoint))  # Lightning does so after workers have begun to fetch
    trainer.fit(method, loader, ckpt_path=resumed)
    if trainer.is_global_zero:
        measured: dict[str, object] = {"precision": number_format, "precision_reason": reason}
        measured |= {"accelerator": accelerator, "devices": devices, **history.record()}
        _write_record(output, settings, identity, images, epochs, len(sampler), measured)


def _trainer(output: Path, epochs: int, accelerator: str, devices: int, callbacks: list):
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import TensorBoardLogger
    from pytorch_lightning.plugins.environments import LightningEnvironment

    # Processes are started here, in a job of Slurm too. Lightning would take the job's one task for all of them, and
    # train one process on its part of the images without a message.
    plugins: list | None = [LightningEnvironment()] if devices > 1 else None
    return pl.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=devices,
        plugins=plugins,
        strategy="ddp" if devices > 1 else "auto",
        sync_batchnorm=devices > 1 and accelerator == "gpu",  # else statistics tell a device's images apart
        use_distributed_sampler=False,  # EpochSampler shares the images out
        logger=TensorBoardLogger(output, name="", version="tensorboard"),
        callbacks=callbacks,
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        benchmark=accelerator == "gpu",
    )


def make_card(
    settings: Mapping, images: Sequence[Mapping], epochs: int, devices: int, initialized_from: str | None, identity: str
) -> dict:
    """Return the key `d2_cxr` of last.ckpt: the card as far as pretraining can know it, the images, the settings."""
    from d2_cxr import __version__
    from d2_cxr.checkpoint.image_list import image_hashes
    from d2_cxr.checkpoint.resnet_names import depth_of
    from d2_cxr.checkpoint.timm_names import timm_name
    from d2_cxr.checkpoint.weights_card import WeightsCard
    from d2_cxr.pretraining.method import CITATIONS

    roots = {name: _dataset_json(name) for name in settings["datasets"]}
    timm = timm_name(settings["backbone"])
    card = WeightsCard(
        architecture=settings["backbone"],
        depth=None if timm else depth_of(settings["backbone"]),
        pixel_mean=[float(value) for value in settings["pixel_mean"]],
        pixel_std=[float(value) for value in settings["pixel_std"]],
        input_format="RGB",
        stride_in_1x1=None if timm else False,
        norm=None if timm else "BN",
        method=settings["method"],
        epochs=epochs,
        batch_size=settings["batch_size"] * devices,
        initialized_from=initialized_from,
        source_format="solo-learn <= 1.0.2",
        data_names=list(settings["datasets"]),
        num_images=len(images),
        data_fingerprints={name: str(root.get("images_fingerprint")) for name, root in roots.items()},
        preprocess=_one_preprocess(roots),
        license=settings["license"],
        citation=CITATIONS.get(settings["method"]),
        project_version=__version__,
        project_commit=artifacts.project_commit(),
    )
    public = {key: value for key, value in settings.items() if key != "sets"}  # folders of this machine stay here
    return {**card.to_dict(), "images": image_hashes(images), "settings": public, "identity": identity}


def _dataset_json(name: str) -> dict:
    from d2_cxr.datasets.named_sets import named_set

    return named_set(name).dataset_json()


def _one_preprocess(roots: Mapping[str, Mapping]) -> dict | None:
    """Return the preprocessing that all sets share.

    Raises:
        ValueError: two sets were prepared differently; a network would see which set an image is from.
    """
    found = {name: root.get("preprocess") for name, root in roots.items()}
    first = next(iter(found.values()))
    for name, preprocess in found.items():
        if preprocess != first:
            raise ValueError(
                f"{name} was prepared as {preprocess}, {next(iter(found))} as {first}; prepare both in the same way"
            )
    return first


def _initialize(method, settings: Mapping) -> str | None:
    """Load the weights to start from, all of them, into the backbone; return what to call them."""
    source = settings["init_from"]
    if source is None:
        return None
    from d2_cxr.checkpoint.backbone import imagenet_backbone, read_backbone
    from d2_cxr.pretraining.method import copy_to_momentum

    if source == "imagenet":
        name, state = imagenet_backbone(settings["backbone"])
    else:
        name, state = read_backbone(source, settings["backbone"], settings["pixel_mean"], settings["pixel_std"])
    method.encoder.load_state_dict(state, strict=True)
    copy_to_momentum(method)
    return name


def _hardware(settings: Mapping) -> tuple[str, int]:
    import torch

    wanted, devices = settings["accelerator"], settings["devices"]
    if wanted not in ("auto", "cpu", "gpu"):
        raise ValueError(f"accelerator is {wanted!r}; choose auto, cpu or gpu")
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "gpu" and not available:
        raise ValueError("accelerator is gpu, but PyTorch finds no GPU; give accelerator=cpu")
    accelerator = "gpu" if available and wanted != "cpu" else "cpu"
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks > 1:  # they would write one folder at once
        raise ValueError(f"srun started this in {tasks} tasks; use one (--ntasks 1), which starts a process per device")
    if devices == "auto":
        return accelerator, available if accelerator == "gpu" else 1
    if not isinstance(devices, int) or devices < 1:
        raise ValueError(f"devices is {devices!r}; give auto or a number above 0")
    return accelerator, devices


def _num_workers(settings: Mapping, accelerator: str) -> int:
    if settings["num_workers"] != "auto":
        return int(settings["num_workers"])
    return min(16, max(1, (os.cpu_count() or 2) - 1)) if accelerator == "gpu" else 0


def _rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))  # set by Lightning in the processes that it starts


def _is_finished(output: Path, identity: str) -> bool:
    record = output / "pretraining.json"
    if not (record.is_file() and (output / "last.ckpt").is_file()):
        return False
    if artifacts.read_json(record)["identity"] != identity:
        raise ValueError(f"{output} holds a finished run of other settings or images; choose another --output")
    return True


def _refuse_another_run(checkpoint: Path, identity: str) -> None:
    if not checkpoint.is_file():
        return
    from d2_cxr.checkpoint.loading import load_weights_file

    found = (load_weights_file(checkpoint).get("d2_cxr") or {}).get("identity")
    if found != identity:
        raise ValueError(f"{checkpoint} belongs to a run of other settings or images; choose another --output")


def _epochs_done(checkpoint: Path) -> int:
    from d2_cxr.checkpoint.loading import load_weights_file

    return load_weights_file(checkpoint)["epoch"] + 1  # Lightning stores the number, from 0, of the last whole epoch


def _write_record(output: Path, settings, identity: str, images, epochs: int, steps: int, measured: Mapping) -> None:
    from d2_cxr.pretraining.health import chance_level

    record = {
        "identity": identity,
        "settings": settings,
        "num_images": len(images),
        "epochs": epochs,
        "steps_per_epoch": steps,
        "num_views": 2 * epochs * steps * settings["batch_size"] * measured["devices"],
        "chance_top1": chance_level(settings["batch_size"] * measured["devices"]),
        **measured,
    }
    artifacts.write_json(output / "pretraining.json", record)


def _quiet() -> None:
    """Keep Lightning's advice and deprecations out of the output; its errors still come as exceptions."""
    for name in ("pytorch_lightning", "lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*defined a `validation_step`.*",
        ".*smaller than the logging interval.*",
        ".*lr_scheduler.step.*",
        ".*srun.*",
        ".*isinstance.treespec.*",
        ".*Checkpoint directory.*",
        ".*enable tensor cores.*",
        ".*torch.jit.script.*",
        ".*sync_dist=True.*",  # the first process's numbers are logged on purpose
    ):
        warnings.filterwarnings("ignore", message=message)
