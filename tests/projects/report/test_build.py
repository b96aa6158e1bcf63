"""The report from a study folder made by hand."""

import csv
import errno
import importlib.util
import re
import shutil
from pathlib import Path

import pytest
from d2_cxr.projects.label_efficiency.report import build_report

from d2_cxr.artifacts import read_json, write_json


def table(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_page_holds_the_papers_tables_and_figures_and_stands_alone(study_folder):
    page = build_report(study_folder, resamples=50).read_text(encoding="utf-8")
    for heading in (
        "Table I",
        "Table II",
        "Figure 2",
        "Figure 3",
        "Figure 4",
        "FROC",
        "How far to trust it",
        "Did it learn?",
    ):
        assert heading in page, heading
    assert not re.search(r'(src|href)="https?://', page), "the page fetches something"
    assert "0.129" in page and "another data set" in page.lower()  # the paper's baseline, marked as foreign
    assert "5.48" in page and "label_statistics.py" in page
    assert 'href="runs/simclr/10/seed1/"' in page
    assert page.count("<pre>python run_study.py --config-file s.yaml &#39;seeds=[0, 1]&#39;</pre>") == 1


def test_a_runs_page_of_mistakes_is_linked_and_points_of_curves_show_their_values(study_folder):
    (study_folder / "runs/simclr/10/seed0/mistakes.html").write_text("")
    page = build_report(study_folder, resamples=50).read_text(encoding="utf-8")
    assert page.count('href="runs/simclr/10/seed0/mistakes.html"') == 2  # below Table I, and at the run
    assert "mistakes.html" not in page.replace("runs/simclr/10/seed0/mistakes.html", "")
    assert re.search(r"<title>simclr, 10 % of the labels \(\d+ images\): AP50 0\.\d{3}, 95 % interval", page)


def test_table_1_has_a_row_for_each_arm_and_label_fraction_and_the_prior_box_baseline(study_folder):
    build_report(study_folder, resamples=50)
    rows = table(study_folder / "report" / "table_1.csv")
    assert [(row["initialization"], row["labels, %"]) for row in rows] == [
        ("random", "100"),
        ("simclr", "100"),
        ("random", "10"),
        ("simclr", "10"),
        ("prior-box baseline", "100"),
    ]
    assert all(float(row["mAP50 low"]) <= float(row["mAP50 high"]) for row in rows)
    assert rows[0]["mAP / baseline's"] == "1.0"
    assert rows[0]["training images"] == "48"


def test_each_run_is_kept_as_a_row_that_holds_its_scores(study_folder):
    build_report(study_folder, resamples=50)
    rows = table(study_folder / "report" / "runs.csv")
    run = study_folder / "runs" / "simclr" / "10" / "seed1"
    (row,) = [row for row in rows if (row["arm"], row["label_fraction"], row["seed"]) == ("simclr", "10", "1")]
    (evaluation,) = [read_json(path) for path in run.glob("inference/*/evaluation.json")]
    assert float(row["AP50"]) == round(evaluation["metrics"]["AP50"]["value"], 4)
    assert float(row["AP50_low"]) <= float(row["AP50_high"])
    assert len(row["matches_sha256"]) == 64
    assert len(rows) == len({(row["arm"], row["label_fraction"], row["seed"]) for row in rows})


def test_val_selected_scores_stand_beside_the_last_ones_and_a_missing_one_is_a_gap(study_folder):
    content = read_json(study_folder / "study.json")
    content["study"]["evaluation"] = {"val_selected": True}
    write_json(study_folder / "study.json", content)
    runs = study_folder / "runs"
    for seed in (0, 1):  # the better weights of simclr at 100 % stand for those that validation chose at 10 %
        source = runs / "simclr" / "100" / f"seed{seed}" / "inference"
        shutil.copytree(source, runs / "simclr" / "10" / f"seed{seed}" / "val_selected" / "inference")
    page = build_report(study_folder, resamples=20).read_text(encoding="utf-8")
    rows = {(row["initialization"], row["labels, %"]): row for row in table(study_folder / "report" / "table_1.csv")}
    assert rows["simclr", "10"]["mAP50, val-selected"] == rows["simclr", "100"]["mAP50"]
    assert rows["simclr", "10"]["mAP, val-selected"] != rows["simclr", "10"]["mAP"]
    assert rows["simclr", "100"]["mAP50, val-selected"] == ""
    assert "whose labels come on top" in page
    assert "planned runs are missing" not in page


def test_a_study_that_did_not_ask_for_val_selected_weights_has_no_such_column(study_folder):
    assert "val-selected" not in build_report(study_folder, resamples=20).read_text(encoding="utf-8")


def test_readers_with_few_images_in_common_stand_in_the_csv_alone(study_folder):
    page = build_report(study_folder, resamples=20).read_text(encoding="utf-8")
    assert "readers: R1–R2" in page
    assert "readers: R1–R3" not in page
    assert "1 pair of readers with fewer than 30 test images on which both drew is left out" in page
    who = [row["who"] for row in table(study_folder / "report" / "table_2.csv")]
    assert who.count("readers: R1–R2") == who.count("readers: R1–R3") == 2


def test_what_pretraining_said_of_itself_and_what_was_tuned_stand_on_the_page(study_folder):
    reached = {"num_views": 12800, "chance_top1": 1 / 127}
    for seed, top1, alarms in ((0, 0.4, []), (1, 0.08, ["hardly learned: 8 %"])):
        record = {**reached, "final": {"contrastive_top1": top1}, "alarms": alarms}
        write_json(study_folder / f"pretraining/simclr/seed{seed}/pretraining.json", record)
    trials = [{"value": 0.001, "score": 0.2}, {"value": 0.002, "score": 0.31}]
    chosen = {"option": "SOLVER.BASE_LR", "value": 0.002, "metric": "AP50", "test": "set_val", "trials": trials}
    write_json(study_folder / "tuning/random.json", chosen)
    page = build_report(study_folder, resamples=20).read_text(encoding="utf-8")
    assert "in 40, 8 % of the cases, by seed (chance 0.8 %), after 12,800 views." in page
    assert "Pretraining simclr/seed1: hardly learned: 8 %." in page
    assert "SOLVER.BASE_LR was tuned for each arm on set_val by AP50" in page
    assert "random 0.002 (0.001: 0.200, 0.002: 0.310)" in page


def test_a_study_whose_longer_runs_gain_by_their_length_alone_says_that_it_is_too_short(study_folder):
    content = read_json(study_folder / "study.json")
    content["study"] |= {"arms": {"random": {}, "simclr": {"compute_matched": "pretraining"}}}
    content["study"]["primary_endpoint"]["controls"] = ["simclr"]  # the better one by far
    write_json(study_folder / "study.json", content)
    assert "The runs are too short" in build_report(study_folder, resamples=50).read_text(encoding="utf-8")
    content["study"]["arms"]["simclr"] = {}
    write_json(study_folder / "study.json", content)
    assert "The runs are too short" not in build_report(study_folder, resamples=50).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "reference, control, weights, said",
    [
        ("random", "simclr", "truth", "The study can see a gain: its positive control gains simclr − random = +"),
        ("simclr", "random", "truth", "The study is insensitive"),
        ("random", "simclr", "permuted(other)", "The negative control gains, too (simclr − random = +"),
        ("simclr", "random", "permuted(other)", None),
    ],
)
def test_the_page_interprets_its_controls(study_folder, reference, control, weights, said):
    content = read_json(study_folder / "study.json")  # simclr is the better one by far
    content["study"] |= {"arms": {reference: {}, control: {"weights": weights}}}
    content["study"] |= {"pretraining": {"truth": {"method": "supervised"}, "other": {}}}
    content["study"]["primary_endpoint"] |= {"reference": reference, "controls": [control]}
    write_json(study_folder / "study.json", content)
    page = build_report(study_folder, resamples=50).read_text(encoding="utf-8")
    sentences = ("The study can see", "The study is insensitive", "The negative control gains")
    assert [text for text in sentences if text in page] == [text for text in sentences if said and text in said]
    assert said is None or said in page


def test_one_label_fraction_is_drawn_as_dots_and_an_endpoint_of_some_classes_is_followed_by_all(study_folder):
    content = read_json(study_folder / "study.json")
    content["study"]["primary_endpoint"]["classes"] = ["Cardiomegaly"]
    content["plan"] = [stage for stage in content["plan"] if "/10/" in stage["output"]]
    write_json(study_folder / "study.json", content)
    page = build_report(study_folder, resamples=50).read_text(encoding="utf-8")
    assert "AP50 over 1 class at 10 % of the labels, 48 labeled images (line: 95 % interval)" in page
    assert "With one label fraction, a label saving cannot be measured." in page
    assert "1 label fraction was run." in page
    assert re.search(r"AP50 over all classes: simclr − random = \+0\.\d{3} \[", page)


def test_scores_of_subgroups_have_a_table_of_their_own(study_folder, tmp_path):
    images = [f"f{number}" for number in range(1, 25)]
    rows = [f"{image},{'AP' if number < 10 else 'PA'}" for number, image in enumerate(images)]
    (tmp_path / "views.csv").write_text("\n".join(["image_id,view", *rows]))
    content = read_json(study_folder / "study.json")
    content["study"]["subgroups"] = f"{tmp_path / 'views.csv'}:view"
    write_json(study_folder / "study.json", content)
    page = build_report(study_folder, resamples=20).read_text(encoding="utf-8")
    assert "Subgroups of images: view" in page
    rows = table(study_folder / "report" / "subgroups.csv")
    assert list(dict.fromkeys(row["subgroup"] for row in rows)) == ["all images", "AP", "PA"]
    assert {(row["subgroup"], row["with findings"]) for row in rows} == {
        ("all images", "24"),
        ("AP", "10"),
        ("PA", "14"),
    }
    first = {(row["initialization"], row["labels, %"]): row for row in table(study_folder / "report" / "table_1.csv")}
    for row in rows[:4]:
        assert row["score"] == first[row["initialization"], row["labels, %"]]["mAP50"]
    assert {row["image AUROC"] for row in rows} == {""}  # no image without findings was tested
    (tmp_path / "views.csv").unlink()  # a report made elsewhere does without
    assert "Subgroups of images" not in build_report(study_folder, resamples=20).read_text(encoding="utf-8")


def test_a_missing_run_is_a_gap(study_folder):
    shutil.rmtree(study_folder / "runs" / "simclr" / "10")
    page = build_report(study_folder, resamples=20).read_text(encoding="utf-8")
    assert "2 of 8 planned runs are missing: simclr 10 % seed 0, simclr 10 % seed 1" in page
    assert table(study_folder / "report" / "table_1.csv")[3]["mAP50"] == ""


def test_a_study_without_any_run_still_has_a_page(study_folder):
    shutil.rmtree(study_folder / "runs")
    assert build_report(study_folder, resamples=20).is_file()


def test_the_same_folder_gives_the_same_page(drawn_anew, study_folder):
    first = build_report(study_folder, resamples=20).read_bytes()
    assert build_report(study_folder, resamples=20).read_bytes() == first


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no study\.json"):
        build_report(tmp_path)


def test_the_tool_writes_where_it_is_told_and_refuses_no_resamples(study_folder, tmp_path):
    path = Path(__file__).resolve().parents[3] / "tools" / "report.py"
    spec = importlib.util.spec_from_file_location("report_tool", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.main([str(study_folder), "--output", str(tmp_path / "page"), "--resamples", "20"]) == 0
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert 'href="../study/runs/simclr/10/seed1/"' in page
    assert not (study_folder / "report.html").exists()
    with pytest.raises(ValueError, match="--resamples 0 gives no interval"):
        tool.main([str(study_folder), "--resamples", "0"])


def test_the_page_opens_with_its_answer_and_says_how_small_a_difference_it_could_have_seen(study_folder):
    page = build_report(study_folder, resamples=50).read_text(encoding="utf-8")
    first = page.index('<p class="answer">simclr needs ')
    assert first < page.index("How far to trust it") < page.index("not for diagnosis") < page.index("Table I:")
    rows = table(study_folder / "report" / "comparisons.csv")
    assert [row["arms"] for row in rows] == ["simclr − random"]
    assert float(rows[0]["detectable with 80 % power"]) > 0


def test_scores_have_one_unit_and_run_cards_show_no_percentages_of_detectron2(study_folder):
    card = study_folder / "runs" / "simclr" / "10" / "seed0" / "run.json"
    write_json(card, read_json(card) | {"results": {"set": {"bbox": {"AP": 13.734}}}, "iterations": 5})
    page = build_report(study_folder, resamples=20).read_text(encoding="utf-8")
    assert "13.734" not in page
    assert "<tr><th>iterations</th><td>5</td></tr>" in page


def test_the_page_has_a_dark_scheme_and_a_print_layout(study_folder):
    page = build_report(study_folder, resamples=20).read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in page and "@media print" in page


def test_a_study_of_an_earlier_format_is_refused_by_name(study_folder):
    write_json(study_folder / "study.json", read_json(study_folder / "study.json") | {"format_version": 1})
    with pytest.raises(ValueError, match="format_version 1, not 2; read it with the commit that it names"):
        build_report(study_folder)


@pytest.mark.slow
def test_on_a_full_disk_the_line_names_file_and_folder_and_with_room_the_same_call_ends(
    study_folder, tmp_path, small_disk
):
    whole = build_report(study_folder, tmp_path / "whole", resamples=20)
    size = sum(path.stat().st_size for path in whole.parent.rglob("*") if path.is_file()) // 1000
    for kilobytes in (4, *range(16, size, max(16, size // 8))):
        folder = small_disk(kilobytes)
        with pytest.raises(OSError, match="disk") as error:
            build_report(study_folder, folder, resamples=20)
        assert error.value.errno == errno.ENOSPC and str(folder) in str(error.value)
        assert not list(folder.rglob(".unfinished-*"))
    folder = small_disk(10 * size)
    assert build_report(study_folder, folder, resamples=20).is_file()
