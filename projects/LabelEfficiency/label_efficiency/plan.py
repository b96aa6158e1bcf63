"""A study's YAML file -> its stages: arms x label fractions x seeds, each stage with everything that it depends on.

A plan is plain values: it can be printed, hashed and compared without importing torch. What a stage does is in
stages.py; which stages are finished is in study_state.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from d2_cxr.projects.label_efficiency.arms import ARM_KINDS
from d2_cxr.projects.label_efficiency.names import (
    config_files,
    pool_names,
    prefix,
    run_folder,
    set_name,
    source,
    test_name,
    train_name,
)
from d2_cxr.projects.label_efficiency.replay import replay_stages
from d2_cxr.projects.label_efficiency.study_file import read_settings

_FEW = 10  # resamples of a trial's evaluation, whose intervals are not used


@dataclass(frozen=True)
class Stage:
    """One step of a study. It is finished if its results exist and were made from the same inputs.

    Attributes:
        id: unique in the study, e.g. "train/simclr/10/seed0".
        kind: a key of stage_kinds.KINDS.
        settings: everything that decides the result, as plain JSON.
        output: folder or file below the study's folder.
        results: paths below the study's folder.
        needs: ids of the stages whose outputs it reads.
        files: files of the repository or the user that it reads; hashed into its inputs.
    """

    id: str
    kind: str
    settings: dict
    output: str
    results: tuple[str, ...]
    needs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Return plain values, to send to another process."""
        return asdict(self)


@dataclass(frozen=True)
class Study:
    """A checked study file and its stages; every stage comes after those that it needs."""

    path: Path
    output: Path
    settings: dict
    stages: tuple[Stage, ...]
    command: tuple[str, ...] = ()  # command line; only recorded

    @property
    def report(self) -> Path:
        """Path of the report's page."""
        return self.output / "report.html"


def read_study(path: str | Path, output: str | Path | None = None, overrides: Sequence[str] = ()) -> Study:
    """Read and check a study file and return it with its stages.

    Args:
        path: the YAML file.
        output: folder of the study; None: the one in the file.
        overrides: KEY=VALUE, the value in YAML, e.g. "data.dicom_dir=images" or "seeds=[0, 1]".

    Raises:
        FileNotFoundError: the file, or a config that it names, is missing.
        ValueError: a key or value is not accepted; one line.
    """
    path = Path(path)
    settings = read_settings(path, overrides)
    output = Path(output or settings["output"])
    return Study(path, output, settings, tuple(_stages(settings)))


def _stages(settings: dict):
    """Yield every stage once, each after the stages that it needs."""
    yielded: set[str] = set()
    for stage in _all_stages(settings):
        if stage.id not in yielded:
            yielded.add(stage.id)
            yield stage


def _all_stages(settings: dict):
    seeds = settings["seeds"]
    for seed in seeds:
        yield from _data_stages(settings, seed)
    yield _statistics(settings, seeds[0])
    for seed in seeds:
        yield _prior_box(settings, seed if settings["data"].get("split_seeds") else seeds[0])
        for label_fraction in settings["labels"]["label_fractions"]:
            for arm in [
                name
                for name, arm in settings["arms"].items()
                if label_fraction in arm.get("label_fractions", [label_fraction])
            ]:
                yield from _arm_stages(settings, arm, label_fraction, seed)


def _data_stages(settings: dict, seed: int):
    data, name = settings["data"], set_name(settings, seed)
    if "phantoms" in data:
        results = ("phantoms/train.csv", "phantoms/truth.json")
        yield Stage("phantoms", "phantoms", data["phantoms"], "phantoms", results)
    if "phantoms" in data or "dicom_dir" in data:
        prepare = {**(data.get("prepare") or {}), "name": name}
        if data.get("split_seeds"):
            prepare["seed"] = seed
        for key in ("dicom_dir", "annotations", "patients"):
            if key in data:
                prepare[key] = data[key]
        folder = f"datasets/{name}"
        needs = ("phantoms",) if "phantoms" in data else ()
        files = tuple(data[key] for key in ("annotations", "patients") if key in data)
        yield Stage(f"prepare/{name}", "prepare", prepare, folder, (f"{folder}/dataset.json",), needs, files)


def _data_needs(settings: dict, seed: int) -> tuple[str, ...]:
    made_here = "phantoms" in settings["data"] or "dicom_dir" in settings["data"]
    return (f"prepare/{set_name(settings, seed)}",) if made_here else ()


def _registered(settings: dict, seed: int) -> dict:
    """Return where the set of this seed is: below the study's folder, at `root`, or where the environment says."""
    data, name = settings["data"], set_name(settings, seed)
    if "phantoms" in data or "dicom_dir" in data:
        return {"name": name, "root": f"datasets/{name}", "inside": True}
    return {"name": data["name"], "root": data.get("root"), "inside": False}


def _statistics(settings: dict, seed: int) -> Stage:
    plan = {"dataset": _registered(settings, seed), "prefix": prefix(settings, seed), "seed": seed}
    plan |= {
        "label_fractions": settings["labels"]["label_fractions"],
        "subsets": settings["labels"].get("subsets", "nested"),
    }
    return Stage("statistics", "statistics", plan, "data", ("data/statistics.json",), _data_needs(settings, seed))


def _prior_box(settings: dict, seed: int) -> Stage:
    folder = run_folder("prior_box", 100, seed)
    test = test_name(settings, seed)
    plan = {"dataset": _registered(settings, seed), "train": f"{prefix(settings, seed)}_train", "test": test}
    plan |= {"seed": seed, "evaluation": settings.get("evaluation") or {}}
    return Stage(
        f"prior_box/seed{seed}",
        "prior_box",
        plan,
        folder,
        _run_results(folder, test),
        _data_needs(settings, seed),
    )


def _run_results(folder: str, test: str) -> tuple[str, ...]:
    """Return the files that make a run finished: its card and its evaluation; its weights may be deleted."""
    return (
        f"{folder}/run.json",
        f"{folder}/inference/{test}/evaluation.json",
        f"{folder}/inference/{test}/matches.npz",
    )


def _arm_stages(settings: dict, arm_name: str, label_fraction: int, seed: int):
    before, weights, needs = _initialization(settings, arm_name, label_fraction, seed)
    yield from before
    if settings.get("tuning"):
        yield from _tuning_stages(settings, arm_name)
        needs = (*needs, f"choose/{arm_name}")
    trained = _train(settings, arm_name, label_fraction, seed, weights, needs)
    if "acquire" in settings["arms"][arm_name]:
        yield from replay_stages(trained, settings, arm_name, label_fraction, seed)
    else:
        yield trained


def _initialization(settings: dict, arm_name: str, label_fraction: int, seed: int):
    """Return the stages that make an arm's starting weights, the path of these, and what its training needs."""
    arm = settings["arms"][arm_name]
    pretrained = source(arm)
    weights, needs = arm.get("weights"), _data_needs(settings, seed)
    stages: list[Stage] = []
    if pretrained in (settings.get("pretraining") or {}):
        stages += _pretraining_stages(settings, pretrained, label_fraction, seed)
    elif pretrained in (settings.get("weights") or {}):
        stages.append(_made_elsewhere(settings, pretrained))
    if stages:
        weights, needs = stages[-1].results[0], (*needs, stages[-1].id)
    if arm.get("weights", "").startswith("permuted("):
        permute = _permute(weights, seed, needs[-1:])
        stages.append(permute)
        weights, needs = permute.results[0], (*needs[:-1], permute.id)
    return stages, weights, needs


def _tuning_stages(settings: dict, arm_name: str):
    """Yield an arm's trials, trained at one label fraction and tested on validation images, and the choice."""
    plan, arm = settings["tuning"], settings["arms"][arm_name]
    seed = plan.get("seed", settings["seeds"][0])
    fractions = arm.get("label_fractions", settings["labels"]["label_fractions"])
    label_fraction = plan["label_fraction"] if plan["label_fraction"] in fractions else fractions[0]
    before, weights, needs = _initialization(settings, arm_name, label_fraction, seed)
    yield from before
    trained = _train(settings, arm_name, label_fraction, seed, weights, needs)
    val, outputs = test_name(settings, seed, "val"), {}
    for value in plan["values"]:
        folder = f"tuning/{arm_name}/{value:g}"
        options = {**trained.settings["options"], plan["option"]: value}
        trial = {**trained.settings, "test": val, "options": options, "evaluation": {"resamples": _FEW}}
        trial.pop("tuned")
        outputs[folder] = value
        yield replace(
            trained, id=f"tune/{arm_name}/{value:g}", kind="tune", settings=trial, output=folder,
            results=_run_results(folder, val),
        )  # fmt: skip
    choice = {"option": plan["option"], "trials": outputs, "default": plan["values"][0], "test": val}
    choice |= {key: (settings.get("primary_endpoint") or {}).get(key) for key in ("metric", "classes")}
    needs = tuple(f"tune/{arm_name}/{value:g}" for value in plan["values"])
    path = f"tuning/{arm_name}.json"
    yield Stage(f"choose/{arm_name}", "choose", choice, path, (path,), needs)


def _made_elsewhere(settings: dict, name: str) -> Stage:
    """Fetch and convert a file of `weights`; the result names the file to start from."""
    plan = settings["weights"][name]
    files = () if "://" in plan["file"] else (plan["file"],)
    target = f"weights/{name}.json"
    return Stage(f"weights/{name}", "weights", plan, target, (target,), (), files)


def _pretraining_stages(settings: dict, name: str, label_fraction: int, seed: int) -> list[Stage]:
    plan = settings["pretraining"][name]
    method = plan.get("method", "simclr")
    key = f"{name}/seed{seed}" if plan.get("pool", "all") != "complement" else f"{name}/{label_fraction}/seed{seed}"
    pool = pool_names(settings, plan, label_fraction, seed)
    made = {"dataset": _registered(settings, seed), "pool": pool, "seed": seed, "method": method}
    made |= {"config": plan["config"], "options": plan.get("options") or {}}
    if "pool_fraction" in plan:
        made["pool_fraction"] = plan["pool_fraction"]
    if method == "supervised":
        made["truth"] = "phantoms/truth.json"
    before, needs = [], _data_needs(settings, seed)
    if plan.get("init_from"):
        before = [_made_elsewhere(settings, plan["init_from"])]
        made["init_from"], needs = before[0].results[0], (*needs, before[0].id)
    checkpoint = f"pretraining/{key}/last.ckpt"
    pretrain = Stage(
        f"pretrain/{key}",
        "pretrain",
        made,
        f"pretraining/{key}",
        (checkpoint,),
        needs,
        config_files(plan["config"]),
    )
    weights = f"weights/{key.replace('/', '_')}.pth"
    convert_settings = {"checkpoint": checkpoint}
    if plan.get("detector"):  # a Detectron2 detector whose FPN, RPN and heads are kept
        convert_settings["detector"] = plan["detector"]
    convert = Stage(f"convert/{key}", "convert", convert_settings, weights, (weights,), (pretrain.id,))
    return [*before, pretrain, convert]


def _permute(weights: str, seed: int, needs: tuple[str, ...]) -> Stage:
    target = weights.removesuffix(".pth") + "_permuted.pth"
    key = Path(target).stem
    return Stage(f"permute/{key}", "permute", {"weights": weights, "seed": seed}, target, (target,), needs)


def _train(
    settings: dict, arm_name: str, label_fraction: int, seed: int, weights: str | None, needs: tuple[str, ...]
) -> Stage:
    arm = settings["arms"][arm_name]
    folder, test = run_folder(arm_name, label_fraction, seed), test_name(settings, seed)
    plan = {
        "arm": arm_name,
        "label_fraction": label_fraction,
        "seed": seed,
        "config": arm["config"],
        "weights": weights,
    }
    plan |= {"dataset": _registered(settings, seed), "train": train_name(settings, label_fraction, seed), "test": test}
    plan |= {"options": {**settings["shared_options"], **(arm.get("options") or {})}}
    plan |= {"evaluation": settings.get("evaluation") or {}}
    if settings.get("tuning"):
        plan["tuned"] = f"tuning/{arm_name}.json"
    kinds = {key: kind.plan(settings, arm, label_fraction, seed) for key, kind in ARM_KINDS.items() if key in arm}
    if kinds:
        plan["arm_kinds"] = kinds
    files = config_files(arm["config"]) + ((weights,) if weights and not weights.startswith("weights/") else ())
    return Stage(
        f"train/{arm_name}/{label_fraction}/seed{seed}", "train", plan, folder, _run_results(folder, test), needs, files
    )
