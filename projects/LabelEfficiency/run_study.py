"""Run a label-efficiency study, or continue one: arms x label fractions x seeds, from images to report.

    python projects/LabelEfficiency/run_study.py --config-file projects/LabelEfficiency/demo.yaml
    python projects/LabelEfficiency/run_study.py --plan certificate --set clinic=datasets/clinic --dry-run

Keys of the study file are set on the command line as KEY=VALUE, the value in YAML: seeds=[0,1] data.dicom_dir=images
Finished stages are not run again; after a kill the same command continues.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from d2_cxr.cli import ToolParser, positive, run_tool
from d2_cxr.counted import counted

if TYPE_CHECKING:
    from d2_cxr.projects.label_efficiency.plan import Study

logger = logging.getLogger("run_study")
_PLANS = Path(__file__).resolve().parent
_CLUSTER = "local: processes of this machine; slurm: jobs by submitit; submitit-local: the same jobs on this machine"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ToolParser(description=__doc__)
    plan = parser.add_mutually_exclusive_group(required=True)
    plan.add_argument("--config-file", help="the study file")
    names = sorted(path.stem for path in _PLANS.glob("*.yaml"))
    plan.add_argument("--plan", choices=names, metavar="NAME", help=f"a study file of this project: {', '.join(names)}")
    parser.add_argument(
        "--set", metavar="NAME=FOLDER", help="run the study on this prepared set (data.name and data.root)"
    )
    parser.add_argument(
        "--preset", choices=("auto", "quick"), help="choose the options of every arm by set and machine; needs --set"
    )
    parser.add_argument("--output", help="folder of the study (default: the file's `output`)")
    parser.add_argument("--cluster", default="local", choices=("local", "slurm", "submitit-local"), help=_CLUSTER)
    parser.add_argument("--jobs", type=positive, help="stages side by side (default: the file's, else one per core)")
    parser.add_argument("--threads", type=positive, help="threads per stage (default: the cores divided by --jobs)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its cost, and do nothing")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="set a key of the study, e.g. seeds=[0,1]")
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the study; 1 if its criterion is not met."""
    args = parse_args(argv)
    from d2_cxr.projects.label_efficiency import cost, schedule
    from d2_cxr.projects.label_efficiency.option_check import check_options
    from d2_cxr.projects.label_efficiency.plan import read_study
    from d2_cxr.projects.label_efficiency.study_file import check_inputs
    from d2_cxr.projects.label_efficiency.study_state import StudyState

    path = args.config_file or _PLANS / f"{args.plan}.yaml"
    study = read_study(path, args.output, [*_of_set(args.set, args.preset), *args.overrides])
    check_inputs(study.settings)
    study = dataclasses.replace(study, command=("projects/LabelEfficiency/run_study.py", *(argv or sys.argv[1:])))
    state = StudyState(study)
    to_do = state.to_do()
    if not to_do and not args.dry_run:
        logger.info("All stages (%d) of study %s are finished.", len(study.stages), study.settings["study"])
        state.write()  # titles, endpoint and subgroups may have changed, which no stage depends on
        return report(study)
    resources = study.settings.get("resources", {})
    jobs = args.jobs or resources.get("jobs") or os.cpu_count() or 1
    threads = args.threads or resources.get("threads") or max(1, (os.cpu_count() or 1) // jobs)
    began = time.time()
    workers = _workers(args.cluster, study, jobs, threads, resources)
    try:
        with schedule.only_process(study.output):
            checked = [stage.to_dict() for stage in study.stages if stage.kind in ("train", "pretrain")]
            workers.submit(check_options, checked, str(study.output / "logs" / "timing.log")).result()
            costs = cost.estimate(study, state, workers)
            logger.info("%s", cost.describe(study, costs, jobs, threads))
            if args.dry_run:
                return 0
            schedule.run(study, state, workers, costs, jobs)
    finally:
        workers.shutdown(wait=False, cancel_futures=True)
    logger.info("Finished %s in %s.", counted(len(to_do), "stage"), cost.duration(time.time() - began))
    return report(study)


def report(study: Study) -> int:
    """Write the report, print the study's criterion and where the page is; 1 where the criterion is not met."""
    from d2_cxr.projects.label_efficiency.report.build import build_report, criterion_path

    from d2_cxr.artifacts import read_json

    path = build_report(study.output)
    met = True
    if study.settings.get("criterion") and criterion_path(study.output).is_file():
        found = read_json(criterion_path(study.output))
        met = found["met"]
        logger.info("%s", found["line"])
    logger.info("Report: %s", path)
    return 0 if met else 1


def _of_set(text: str | None, preset: str | None) -> list[str]:
    """Return what NAME=FOLDER and a preset set in a study file.

    Raises:
        ValueError: it is not NAME=FOLDER, or the folder holds no prepared set.
    """
    if text is None:
        if preset:
            raise ValueError("--preset needs a prepared set: give --set NAME=FOLDER as well")
        return []
    name, _, folder = text.partition("=")
    if not name or not (Path(folder) / "dataset.json").is_file():
        raise ValueError(f"--set {text}: give NAME=FOLDER of a prepared set, a folder with dataset.json")
    of_set = [f"data={{name: {name}, root: '{folder}'}}"]
    if preset is None:
        return of_set
    from d2_cxr.projects.label_efficiency.study_preset import preset_overrides

    return [*of_set, *preset_overrides(name, folder, preset)]


def _workers(cluster: str, study: Study, jobs: int, threads: int, resources: dict):
    from d2_cxr.projects.label_efficiency import schedule, slurm

    if cluster == "local":
        return schedule.LocalWorkers(jobs, threads)
    folder = Path(study.output) / "logs" / "submitit"
    executor, options = cluster.removeprefix("submitit-"), resources.get("slurm", {})
    return slurm.SubmititWorkers(executor, folder, jobs, threads, options)


if __name__ == "__main__":
    run_tool(main)
