"""What reports show of a configuration, and what identifies a run."""

import json

from lifelong_ct.cli import privacy
from lifelong_ct.core.identity import Identity


def _config(tmp_path, **hospital):
    return {
        "paths": {"data": str(tmp_path / "Doe_Jane"), "runs": "runs", "state": str(tmp_path), "run": None},
        "trainer": {"steps": 3, "stop_after": None, "keep_checkpoints": 2},
        "group": None,
        "stream": {"hospitals": [{"name": "north", **hospital}]},
    }


def test_identifiers_of_a_manifest_are_hidden_even_where_it_is_broken(tmp_path):
    root = tmp_path / "hospital"
    root.mkdir()
    rows = [
        {
            "id": "SCAN-77",
            "patient": "Doe^Jane",
            "image": "doe_jane/ct_original.nii.gz",
            "organs": ["nonsense"],
        }
    ]
    (root / "manifest.json").write_text(json.dumps({"cases": rows}))
    config = _config(tmp_path, manifest=str(root / "manifest.json"))
    redact = privacy.redactor(config, Identity(tmp_path))
    text = redact(f"case SCAN-77 of Doe^Jane in {root}/doe_jane/ct_original.nii.gz, {tmp_path}/Doe_Jane/x")
    for word in ("SCAN-77", "Doe", "Jane", "doe_jane", "ct_original", str(root)):
        assert word not in text


def test_folders_of_a_model_s_files_are_hidden(tmp_path):
    """Those of nnU-Net are named after a data set."""
    files = {
        "plans": "results/Dataset007_Doe/plans.json",
        "weights": "/results/Dataset007_Doe/fold_0/final.pth",
    }
    config = {**_config(tmp_path), "model": {"_target_": "x", **files}}
    redact = privacy.redactor(config, Identity(tmp_path))
    shown = privacy.public(config, config, redact)
    assert shown["model"] == {"_target_": "x", "plans": "<model>", "weights": "<model>"}
    assert "Doe" not in redact(f"model.plans={files['plans']} model.weights={files['weights']}")


def test_an_inline_manifest_is_not_shown(tmp_path):
    config = _config(tmp_path, manifest={"cases": [{"id": "SCAN-77", "patient": "Doe^Jane"}]})
    redact = privacy.redactor(config, Identity(tmp_path))
    shown = privacy.public(config, config, redact)
    assert shown["stream"]["hospitals"][0]["manifest"] == "<1 cases>"


def test_the_hash_ignores_places_and_pauses_and_knows_the_rest(tmp_path):
    config = _config(tmp_path)
    same = {**config, "paths": {}, "group": "x", "trainer": {**config["trainer"], "stop_after": 1}}
    other = {**config, "trainer": {**config["trainer"], "steps": 4}}
    data = {
        "cache": 1,
        "workers": 2,
        "worker_kind": "process",
        "read_ahead": 9,
        "timeout": 5,
        "foreground": 0.5,
    }
    few = {"data": {"foreground": 0.5}}
    assert privacy.configuration_hash({**config, "data": data}) == privacy.configuration_hash(
        {**config, **few}
    )
    ram, disk, less = (
        {"memory": {"exemplars": n, "exemplar_tier": t}} for n, t in ((9, "ram"), (9, "disk"), (8, "ram"))
    )
    assert privacy.configuration_hash({**config, **ram}) == privacy.configuration_hash({**config, **disk})
    assert privacy.configuration_hash({**config, **ram}) != privacy.configuration_hash({**config, **less})
    assert privacy.configuration_hash({**config, **few}) != privacy.configuration_hash(config)
    assert privacy.configuration_hash(config) == privacy.configuration_hash(same)
    assert privacy.configuration_hash(config) != privacy.configuration_hash(other)


def test_what_several_patients_share_stays_readable_and_what_is_outside_the_root_does_not(tmp_path):
    rows = [
        {"id": "one-1", "patient": "p-one", "image": "/elsewhere/Doe_Jane/phase2/liver_window.nii.gz"},
        {"id": "two-2", "patient": "p-two", "image": "/elsewhere/Roe_Rita/phase2/liver_window.nii.gz"},
    ]
    redact = privacy.redactor(_config(tmp_path, manifest={"cases": rows}), Identity(tmp_path))
    assert redact("liver_window of phase2") == "liver_window of phase2"
    for row in rows:
        assert "oe_" not in redact(f"cannot read {row['image']}")


def test_hospitals_without_a_name_are_hidden_too(tmp_path):
    config = _config(tmp_path)
    config["stream"]["hospitals"] = [{"manifest": {"cases": [{"id": i}]}} for i in ("DOE-1", "ROE-2")]
    redact = privacy.redactor(config, Identity(tmp_path))
    assert "OE-" not in redact("DOE-1 and ROE-2")


def test_folders_of_dicom_are_hidden_before_they_are_listed(tmp_path):
    root = tmp_path / "archive"
    for folder in ("Doe_Jane/study-5/1", "Roe_Rita/study-6/2"):
        (root / folder).mkdir(parents=True)
    split = {"train": ["Doe_Jane/*"], "test": ["Poe_Edgar/*"]}
    config = _config(tmp_path, layout="dicom", root=str(root), series="*/*/*", split=split)
    redact = privacy.redactor(config, Identity(tmp_path))
    text = redact(
        f"case Doe_Jane/study-5/1, {root}/Doe_Jane/study-5/1/0001.dcm; split, Poe_Edgar/*; Roe_Rita"
    )
    for word in ("Doe", "Jane", "Rita", "Edgar", str(root)):
        assert word not in text
    shown = privacy.public(config, config, redact)
    assert shown["stream"]["hospitals"][0]["split"] == "<2 entries>"


def test_a_csv_with_a_byte_order_mark_hides_its_ids(tmp_path):
    (tmp_path / "m.csv").write_text("id,patient\nSCAN-77,Doe^Jane\n", encoding="utf-8-sig")
    redact = privacy.redactor(_config(tmp_path, manifest=str(tmp_path / "m.csv")), Identity(tmp_path))
    assert "SCAN" not in redact("case SCAN-77")
    assert "Jane" not in redact("of DOE^JANE, doe^jane".lower())


def test_relative_places_are_hidden_too(tmp_path):
    config = _config(tmp_path, root="Doe_Jane", manifest="doe-jane.csv", anatomy="maps/of Jane")
    redact = privacy.redactor(config, Identity(tmp_path))
    shown = privacy.public(config, config, redact)
    assert shown["stream"]["hospitals"] == [
        {"name": "north", "root": "<root>", "manifest": "<manifest>", "anatomy": "<anatomy>"}
    ]
    assert redact("the folder Doe_Jane, doe-jane.csv: bad") == "the folder <north>, <north>: bad"


def test_what_a_strategy_promises_is_no_part_of_what_it_computes(tmp_path):
    config = _config(tmp_path)
    plugins = [{"_target_": "a.B", "overhead": 2.0}]  # an argument that is called so

    def hashed(**strategy):
        return privacy.configuration_hash(
            {**config, "strategy": {"name": "x", "plugins": plugins, **strategy}}
        )

    assert hashed() == hashed(overhead=1.1, grows="bytes") == hashed(overhead=1.5)
    assert hashed(parts={"one": {"name": "y"}}) == hashed(parts={"one": {"name": "y", "overhead": 1.1}})
    assert hashed() != hashed(plugins=[{"_target_": "a.B", "overhead": 3.0}])
