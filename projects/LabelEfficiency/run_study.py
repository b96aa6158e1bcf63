"""Run a label-efficiency study, or go on with it: arms x label shares x seeds, from images to report.

    python projects/LabelEfficiency/run_study.py --config-file projects/LabelEfficiency/demo.yaml

Keys of the study file are set on the command line as KEY=VALUE, the value in YAML: seeds=[0,1] data.dicom_dir=images
What is finished is not done again; after a kill the same command goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
import time
from pathlib import Path

from d2_cxr.projects.label_efficiency import cost, schedule, slurm
from d2_cxr.projects.label_efficiency.option_check import check_options
from d2_cxr.projects.label_efficiency.plan import Study, read_study
from d2_cxr.projects.label_efficiency.study_file import check_inputs
from d2_cxr.projects.label_efficiency.study_state import StudyState

from d2_cxr.artifacts import read_json
from d2_cxr.cli import run_tool

logger = logging.getLogger("run_study")
_CLUSTER = "local: processes of this machine; slurm: jobs by submitit; submitit-local: the same jobs on this machine"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    example = "example: python projects/LabelEfficiency/run_study.py --config-file projects/LabelEfficiency/demo.yaml"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog=example)
    parser.add_argument("--config-file", required=True, help="the study: demo.yaml, study.yaml, study_paper.yaml")
    parser.add_argument("--output", help="folder of the study; default: the file's `output`")
    parser.add_argument("--cluster", default="local", choices=("local", "slurm", "submitit-local"), help=_CLUSTER)
    parser.add_argument("--jobs", type=int, help="stages side by side; default: the file's, else one a core")
    parser.add_argument("--threads", type=int, help="threads of each; default: the cores divided by --jobs")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its cost, and do nothing")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the study file, e.g. seeds=[0,1]")
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    study = read_study(args.config_file, args.output, args.overrides)
    check_inputs(study.settings)
    study = dataclasses.replace(study, command=("projects/LabelEfficiency/run_study.py", *(argv or sys.argv[1:])))
    state = StudyState(study)
    to_do = state.to_do()
    if not to_do and not args.dry_run:
        logger.info("All %d stages of study %s are finished.", len(study.stages), study.settings["study"])
        state.write()  # titles, endpoint and groups may have changed, which no stage depends on
        return report(study)
    resources = study.settings.get("resources") or {}
    jobs = args.jobs or resources.get("jobs") or os.cpu_count() or 1
    threads = args.threads or resources.get("threads") or max(1, (os.cpu_count() or 1) // jobs)
    began = time.time()
    workers = _workers(args.cluster, study, jobs, threads, resources)
    try:
        with schedule.only_process(study.output):
            asked = [stage.to_dict() for stage in study.stages if stage.kind in ("train", "pretrain")]
            workers.submit(check_options, asked, str(study.output / "logs" / "timing.log")).result()
            costs = cost.estimate(study, state, workers)
            logger.info("%s", cost.describe(study, costs, jobs, threads))
            if args.dry_run:
                return 0
            schedule.run(study, state, workers, costs, jobs)
    finally:
        workers.shutdown(wait=False, cancel_futures=True)
    logger.info("Finished %d stages in %.0f s.", len(to_do), time.time() - began)
    return report(study)


def report(study: Study) -> int:
    """Write the report, print the study's criterion and where the page is; 1 where the criterion is not met."""
    from d2_cxr.projects.label_efficiency.report.build import build_report, criterion_path

    path = build_report(study.output)
    met = True
    if study.settings.get("criterion") and criterion_path(study.output).is_file():
        found = read_json(criterion_path(study.output))
        met = found["met"]
        logger.info("%s", found["line"])
    logger.info("Report: %s", path)
    return 0 if met else 1


def _workers(cluster: str, study: Study, jobs: int, threads: int, resources: dict):
    if cluster == "local":
        return schedule.local_workers(jobs, threads)
    folder = Path(study.output) / "logs" / "submitit"
    executor, options = cluster.removeprefix("submitit-"), resources.get("slurm") or {}
    return slurm.SubmititWorkers(executor, folder, jobs, threads, options)


if __name__ == "__main__":
    run_tool(main)
