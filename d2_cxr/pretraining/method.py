"""solo-learn's methods under a current Lightning: the gaps, and nothing of solo-learn copied.

solo-learn 1.0.2 (da Costa et al., JMLR 23, 2022) is the last release of the registry and was made for
pytorch-lightning 1. Each gap that is closed here has a test that it still exists (tests/pretraining/test_method.py):

1. It imports `pl_bolts` for a scheduler, and pl_bolts does not run under Lightning 2: a replacement is installed.
2. `validation_epoch_end` exists, which Lightning 2 refuses: deleted; there is no validation here.
3. `on_train_batch_end` of the momentum methods requires a `dataloader_idx`, which Lightning 2 no longer passes.
4. `lars=True` has no effect: the wrapper scales gradients before Lightning's closure computes them anew. `Lars` below.
5. Under bf16 autocast the contrastive loss is computed in bf16: only the backbone runs under autocast here.
6. NT-Xent contrasts the images of one process only: projections are gathered from all.
7. A momentum method restarts its schedule of tau on resume.
8. Only ResNet-18 and 50 are offered: 34, 101 and networks of timm are put in their place.
9. `warmup_cosine` changes the rate once an epoch, so a warm-up of one epoch trains it at rate 0: by steps here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import math
import sys
import types
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from d2_cxr.checkpoint.timm_names import build_network, timm_name
from d2_cxr.counted import counted

if TYPE_CHECKING:  # what every method of solo-learn is
    from pytorch_lightning import LightningModule as _Method
else:
    _Method = object

SOLO_VERSION = "1.0.2"
_REPLACED = "vit_tiny"  # solo-learn's encoder whose place a network of timm takes
_MOMENTUM = {"base_tau_momentum": 0.99, "final_tau_momentum": 1.0, "momentum_classifier": False}
# Method -> its own arguments with solo-learn's defaults, and where the shared settings go.
METHODS: dict[str, dict] = {
    "simclr": {},
    "mocov2plus": {"queue_size": 65536, **_MOMENTUM},
    "byol": {"pred_hidden_dim": 512, **_MOMENTUM},
    "barlow_twins": {"lamb": 0.0051, "scale_loss": 0.024},
    "vicreg": {"sim_loss_weight": 25.0, "var_loss_weight": 25.0, "cov_loss_weight": 1.0},
}
_WITH_TEMPERATURE = ("simclr", "mocov2plus")
CITATIONS = {
    "simclr": "Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, arXiv 2002.05709",
    "mocov2plus": "Chen and He, Exploring Simple Siamese Representation Learning, arXiv 2011.10566 (MoCo v2+)",
    "byol": "Grill et al., Bootstrap Your Own Latent, arXiv 2006.07733",
    "barlow_twins": "Zbontar et al., Barlow Twins, arXiv 2103.03230",
    "vicreg": "Bardes et al., VICReg, arXiv 2105.04906",
}


def import_solo():
    """Import solo-learn's methods with its gaps closed; a second call returns the same module.

    Raises:
        ValueError: solo-learn is missing or of another version; says how to install it.
    """
    remedy = f"pip install --no-deps solo-learn=={SOLO_VERSION}"
    try:
        version = importlib.metadata.version("solo-learn")
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(f"solo-learn is missing: {remedy}") from None
    if version != SOLO_VERSION:
        raise ValueError(f"solo-learn {version} is installed, whose methods are constructed differently: {remedy}")
    if "solo.methods" in sys.modules and getattr(sys.modules["solo.methods"], "_gaps_closed", False):
        return sys.modules["solo.methods"]
    if importlib.util.find_spec("pl_bolts") is None:
        _put_stand_in()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside timm and torchvision, nothing a user could do about
        import solo.methods as methods
    for base in (methods.base.BaseMethod, methods.base.BaseMomentumMethod):
        if "validation_epoch_end" in vars(base):
            del base.validation_epoch_end
    methods.base.LARSWrapper = Lars
    methods._gaps_closed = True
    return methods


def _put_stand_in() -> None:
    """Make `from pl_bolts.optimizers.lr_scheduler import LinearWarmupCosineAnnealingLR` work."""
    for name in ("pl_bolts", "pl_bolts.optimizers", "pl_bolts.optimizers.lr_scheduler"):
        sys.modules.setdefault(name, types.ModuleType(name))
    vars(sys.modules["pl_bolts.optimizers.lr_scheduler"])["LinearWarmupCosineAnnealingLR"] = WarmupCosine


class WarmupCosine(torch.optim.lr_scheduler.LambdaLR):
    """Linear warm-up, then a cosine (Loshchilov and Hutter, arXiv 1608.03983), in epochs or, given steps, in steps.

    The arguments are those that solo-learn passes. Epoch 0 has `warmup_start_lr`, epoch `warmup_epochs` - 1 the full
    rate, epoch `max_epochs` would have `eta_min`. Without a warm-up the full rate comes first.
    """

    def __init__(
        self, optimizer, warmup_epochs: int, max_epochs: int, warmup_start_lr: float = 0.0, eta_min: float = 0.0
    ):
        def factor(base_lr: float):
            def of_epoch(epoch: int) -> float:
                if epoch < warmup_epochs:
                    return (warmup_start_lr + (base_lr - warmup_start_lr) * epoch / max(1, warmup_epochs - 1)) / base_lr
                share = min(1.0, (epoch - warmup_epochs) / max(1, max_epochs - warmup_epochs))
                return (eta_min + (base_lr - eta_min) * (1 + math.cos(math.pi * share)) / 2) / base_lr

            return of_epoch if base_lr > 0 else lambda epoch: 1.0  # the online classifier's rate is 0

        super().__init__(optimizer, [factor(group["lr"]) for group in optimizer.param_groups])


class Lars(torch.optim.SGD):
    """SGD with a trust ratio a tensor (You et al., arXiv 1708.03888), scaled after the closure has run.

    The arguments are those that solo-learn passes to its own wrapper: an SGD whose groups and rates are taken over.
    """

    def __init__(self, optimizer, eta: float = 1e-3, clip: bool = False, exclude_bias_n_norm: bool = True, eps=1e-8):
        groups = [dict(group) for group in optimizer.param_groups]
        super().__init__(groups, **optimizer.defaults)
        self.eta, self.clip, self.exclude_bias_n_norm, self.eps = eta, clip, exclude_bias_n_norm, eps

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step; returns the loss of the closure, None without one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        decays = [group["weight_decay"] for group in self.param_groups]
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = 0  # is inside the trust ratio; tensors that are left out have none
            for parameter in group["params"]:
                if parameter.grad is not None and not (parameter.ndim == 1 and self.exclude_bias_n_norm):
                    self._scale(parameter, group["lr"], decay)
        super().step()
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay
        return loss

    def _scale(self, parameter, lr: float, decay: float) -> None:
        norm, grad_norm = parameter.norm(), parameter.grad.norm()
        if norm > 0 and grad_norm > 0:
            trust = self.eta * norm / (grad_norm + decay * norm + self.eps)
            if self.clip:
                trust = torch.clamp(trust / lr, max=1.0)
            parameter.grad.add_(parameter, alpha=decay).mul_(trust)


class _OnImages(_Method):
    """The first base class of a method of solo-learn: image batches in, backbone under autocast, projections out.

    After each step `projected` holds the two views' projections (B, D) and `features` the backbone's (B, F), both
    float32, detached, and gathered from all processes; `numbers` the image numbers (B,) of this process.
    """

    uses_bfloat16 = False
    image_names: Sequence[str] = ()
    card: Mapping = {}
    _mean: torch.Tensor
    _std: torch.Tensor
    projector: nn.Module
    encoder: nn.Module
    momentum_encoder: nn.Module

    def set_input(self, pixel_mean: Sequence[float], pixel_std: Sequence[float]) -> None:
        """Set the normalization of gray pixels (0-255) to three channels."""
        self.register_buffer("_mean", torch.tensor(pixel_mean, dtype=torch.float32), persistent=False)
        self.register_buffer("_std", torch.tensor(pixel_std, dtype=torch.float32), persistent=False)
        self.projected: list[torch.Tensor] = []
        self.features: list[torch.Tensor] = []
        self.projector.register_forward_hook(self._keep_projection)

    def on_after_batch_transfer(self, batch, dataloader_idx: int):
        """(numbers, uint8 (B, 2, S, S), targets) -> (numbers, [two float (B, 3, S, S), channels last], targets)."""
        numbers, views, targets = batch
        return numbers, [self.normalized(views[:, 0]), self.normalized(views[:, 1])], targets

    def normalized(self, gray: torch.Tensor) -> torch.Tensor:
        """uint8 (B, S, S) -> float32 (B, 3, S, S), channels last."""
        return ((gray[..., None].float() - self._mean) / self._std).permute(0, 3, 1, 2)

    def base_forward(self, X):  # noqa: N803 - solo-learn's name
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.uses_bfloat16):
            features = pooled(self.encoder(X))
        features = features.float()
        self.features.append(features.detach())
        return {"feats": features, "logits": self.classifier(features.detach())}

    @torch.no_grad()
    def base_momentum_forward(self, X):  # noqa: N803 - solo-learn's name
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.uses_bfloat16):
            features = pooled(self.momentum_encoder(X))
        return {"feats": features.float()}

    def training_step(self, batch, batch_idx: int):
        self.projected, self.features = [], []
        self.numbers = batch[0]
        loss: Any = super().training_step(batch, batch_idx)
        if not torch.isfinite(loss):
            images = ", ".join(self.image_names[number] for number in batch[0].tolist())
            raise NotFiniteError(
                f"the loss is {float(loss.detach())} at step {self.global_step}; images of the batch: {images}"
            )
        return loss

    def configure_optimizers(self):
        """Let `warmup_cosine` change the rate at each step; by epochs a warm-up of one would not learn in the first."""
        if self.scheduler != "warmup_cosine":
            return super().configure_optimizers()
        epochs, steps = (self.warmup_epochs, self.max_epochs), steps_per_epoch(self)
        self.warmup_epochs, self.max_epochs = round(steps * epochs[0]), steps * epochs[1]
        (optimizer,), (scheduler,) = super().configure_optimizers()
        self.warmup_epochs, self.max_epochs = epochs
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def on_train_start(self) -> None:
        super().on_train_start()
        updater = getattr(self, "momentum_updater", None)
        if updater is not None and self.global_step:
            self.last_step = self.global_step
            trainer: Any = self.trainer
            updater.update_tau(self.global_step, len(trainer.train_dataloader) * trainer.max_epochs)

    def on_train_batch_end(self, outputs, batch, batch_idx: int) -> None:
        if hasattr(self, "momentum_updater"):
            super().on_train_batch_end(outputs, batch, batch_idx, 0)  # type: ignore[call-arg]  # solo-learn's takes one more

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["d2_cxr"] = dict(self.card)

    def log_dict(self, values: Mapping, **options) -> None:  # type: ignore[override]  # Lightning's names it dictionary
        """Log what the method logs, without its online classifier of one class."""
        values = {key: value for key, value in values.items() if "class_loss" not in key and "acc" not in key}
        super().log_dict(values, **options)

    def _keep_projection(self, _module, _inputs, projection):
        if self.gathers and torch.distributed.is_available() and torch.distributed.is_initialized():
            projection = _gathered(projection)
        self.projected.append(projection.detach())
        return projection


def steps_per_epoch(method: Any) -> int:
    """Return the optimizer's steps in an epoch of a module that has a trainer."""
    return max(1, method.trainer.estimated_stepping_batches // method.trainer.max_epochs)


def pooled(features: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """Return (B, F): torchvision's networks end in a mean over positions, timm's feature extractors in maps."""
    return features if isinstance(features, torch.Tensor) else features[-1].mean(dim=(2, 3))


class NotFiniteError(ValueError):
    """The loss became NaN or infinite; names the step and the images."""


def _gathered(projection: torch.Tensor) -> torch.Tensor:
    """Gather (B, D) from every process to (W * B, D), with the gradient of the whole batch's loss.

    DDP averages over W processes what each computes through its own rows, so the rows' gradient is taken W times.
    """
    from solo.utils.misc import gather

    world_size = torch.distributed.get_world_size()
    return gather(projection * world_size - projection.detach() * (world_size - 1))


def build_method(settings: Mapping, epochs: int) -> nn.Module:
    """Return a LightningModule: solo-learn's method by name, on images.

    Args:
        settings: complete settings (settings.py).
        epochs: length of the run, for the schedule of the learning rate.

    Raises:
        ValueError: the method is not one of `METHODS`, or has no such option; the warm-up is as long as the run.
    """
    name = settings["method"]
    if name not in METHODS:
        raise ValueError(f"method is {name!r}; choose one of {', '.join(METHODS)}")
    own = _own_options(name, settings["method_options"])
    if name in _WITH_TEMPERATURE:
        own["temperature"] = float(settings["temperature"])
    solo_methods = import_solo()
    base = solo_methods.METHODS[name]
    adapted = type(f"{base.__name__}OnImages", (_OnImages, base), {"gathers": name == "simclr"})
    with _offered(timm_name(settings["backbone"])):
        method = adapted(
            **own,
            proj_hidden_dim=settings["projection"]["hidden_dim"],
            proj_output_dim=settings["projection"]["output_dim"],
            **_shared_arguments(settings, epochs),
        )
    _set_backbone(method, settings["backbone"])
    method.set_input(settings["pixel_mean"], settings["pixel_std"])
    return method


def _own_options(name: str, given: Mapping) -> dict:
    unknown = sorted(given.keys() - METHODS[name].keys())
    if unknown:
        raise ValueError(f"{name} has no method_options.{unknown[0]}; it has {', '.join(METHODS[name]) or 'none'}")
    return {**METHODS[name], **given}


def _shared_arguments(settings: Mapping, epochs: int) -> dict:
    optimizer, scheduler = settings["optimizer"], settings["scheduler"]
    if scheduler["warmup_epochs"] >= epochs:
        raise ValueError(
            f"scheduler.warmup_epochs is {scheduler['warmup_epochs']}, the run has {counted(epochs, 'epoch')}; give a "
            "shorter warm-up (0.5 is half an epoch)"
        )
    return {
        "encoder": _solo_name(settings["backbone"]),
        "num_classes": 1,  # every image is of class 0: the online classifier's loss is exactly 0
        "backbone_args": {},
        "max_epochs": epochs,
        "batch_size": settings["batch_size"],
        "optimizer": optimizer["name"],
        "lars": settings["lars"],
        "lr": optimizer["lr"],
        "weight_decay": optimizer["weight_decay"],
        "classifier_lr": 0.0,
        "exclude_bias_n_norm": True,
        "accumulate_grad_batches": 1,
        "extra_optimizer_args": {"momentum": optimizer["momentum"]} if optimizer["name"] == "sgd" else {},
        "scheduler": scheduler["name"],
        "min_lr": scheduler["min_lr"],
        "warmup_start_lr": scheduler["warmup_start_lr"],
        "warmup_epochs": scheduler["warmup_epochs"],
        "lr_decay_steps": scheduler["steps"],
        "num_large_crops": 2,
        "num_small_crops": 0,
    }


def _solo_name(architecture: str) -> str:
    """Name of solo-learn's encoder that is as wide as the architecture, or that is replaced by timm's."""
    if timm_name(architecture):
        return _REPLACED
    return "resnet18" if architecture in ("resnet18", "resnet34") else "resnet50"


@contextlib.contextmanager
def _offered(timm: str | None):
    """Let solo-learn build a network of timm where it would build its own, so that its heads fit in width."""
    import solo.utils.backbones as offered

    original = getattr(offered, _REPLACED)
    if timm:
        setattr(offered, _REPLACED, lambda: build_network(timm))
    try:
        yield
    finally:
        setattr(offered, _REPLACED, original)


def _set_backbone(method: nn.Module, architecture: str) -> None:
    """Put the architecture in place where solo-learn offers only one of the same width, channels last."""
    import torchvision

    for name in ("encoder", "momentum_encoder"):
        if not hasattr(method, name):
            continue
        if architecture in ("resnet34", "resnet101"):
            backbone = getattr(torchvision.models, architecture)(weights=None)
            backbone.fc = nn.Identity()
            setattr(method, name, backbone)
        getattr(method, name).to(memory_format=torch.channels_last)
    copy_to_momentum(method)


def copy_to_momentum(method: Any) -> None:
    """Make the momentum encoder, where there is one, equal to the backbone, statistics included, and untrained."""
    if hasattr(method, "momentum_encoder"):
        method.momentum_encoder.load_state_dict(method.encoder.state_dict())
        method.momentum_encoder.requires_grad_(False)
