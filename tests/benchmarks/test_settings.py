"""Every settings file against the constructors, and every model with settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.experiment import SETTINGS, Experiment, Reported, read
from benchmarks.speed import model_for, posts_for
from mnergraph.data import DATASETS
from mnergraph.models import MODELS

PROTOCOLS = SETTINGS.parent / "protocols"
FILES = sorted(SETTINGS.glob("*.yaml"))
ALL = {path.stem: read(path) for path in FILES}
#: Reported figures whose F1 is not that of their own precision and recall: as printed in the paper.
ODD = {("UMGF", "Twitter2017", "Twitter2015")}
#: Systems on data sets for which their papers, and those that quote them, have no figures.
UNREPORTED = {(name, "Twitter2017") for name in ("OCSGA", "Object-AGBAN", "ATTR-MMKG-MNER")}
every_file = pytest.mark.parametrize("name", ALL)


def variants(experiment: Experiment) -> list[Experiment]:
    """The experiment and its ablations."""
    return [experiment, *(experiment.without(name) for name in experiment.ablations)]


@pytest.mark.parametrize("data", ["Twitter2015", "Twitter2017", "Lookalikes"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_settings(model: str, data: str) -> None:
    assert any((experiment.model, experiment.data) == (model, data) for experiment in ALL.values())


@every_file
def test_names(name: str) -> None:
    experiment = ALL[name]
    author, system, data = name.rsplit("_", 2)
    assert (system, data) == (experiment.system.lower(), experiment.data.lower())
    assert author[-4:].isdigit()
    assert experiment.data in DATASETS
    assert experiment.source
    assert experiment.model in MODELS, f"there is no model {experiment.model!r}"


@every_file
def test_settings_build_their_model(name: str) -> None:
    for experiment in variants(ALL[name]):
        builds(experiment)


@pytest.mark.parametrize("name", [name for name, one in ALL.items() if one.data == "Twitter2017"])
def test_captions_protocol_builds_every_model(name: str) -> None:
    experiment = read(SETTINGS / f"{name}.yaml", PROTOCOLS / "captions.yaml")
    assert experiment.regions is None
    builds(experiment)


def builds(experiment: Experiment) -> None:
    """Builds the experiment's model over a tiny encoder; it keeps the arguments it was given."""
    model = model_for(experiment, posts_for(experiment, 3, [4]), (48, 1, 4))
    assert type(model) is MODELS[experiment.model]
    kept, given = model.hparams(), dict(experiment.arguments)
    if experiment.object_labels is not None and "label_features" in kept:
        given["label_features"] = experiment.object_labels
    assert {key: kept[key] for key in given} == given


@every_file
def test_reported_figures(name: str) -> None:
    experiment = ALL[name]
    if experiment.data == "Lookalikes":
        assert experiment.reported is None
        assert not experiment.ablations
        return
    assert (experiment.reported is None) == ((experiment.system, experiment.data) in UNREPORTED)
    if experiment.reported is None:
        return
    for one in variants(experiment):
        if one.reported is None:  # the paper's figures were not to be had
            assert one.system.startswith("HVPNeT, ")
            continue
        grounding = {f"{one.data}, {name}": figures for name, figures in one.reported_grounding.items()}
        assert set(one.reported_grounding) == ({"GMNER", "EEG"} if one.grounder else set())
        for target, figures in {**one.transferred, **grounding, one.data: one.reported}.items():
            assert consistent(figures) != ((one.system, one.data, target) in ODD), (one.system, target)
            assert set(figures.types) in ({"PER", "LOC", "ORG", "MISC"}, set())


def consistent(figures: Reported) -> bool:
    """Whether F1 follows from precision and recall, where given, as far as rounding and means over runs let it."""
    if figures.precision is None or figures.recall is None:
        return True
    exact = 2 * figures.precision * figures.recall / (figures.precision + figures.recall)
    return abs(exact - figures.f1) < 0.06


def test_settings_of_both_years_agree() -> None:
    """Settings of a paper for both data sets are in two files, which must be equal except where the papers differ."""
    for name, one in ALL.items():
        if one.data != "Twitter2015":
            continue
        other = ALL[name.replace("twitter2015", "twitter2017")]
        figures = {"data": "", "reported": None, "transferred": {}, "ablations": {}}
        differences = {
            "UMT": {"trainer": one.trainer},
            "MT-BERT-CRF": {"trainer": one.trainer},
            "BERT": {"trainer": one.trainer},
            "BERT-CRF": {"trainer": one.trainer},
            "GVATT-BERT-CRF": {"trainer": one.trainer},
            "AdaCAN-BERT-CRF": {"trainer": one.trainer},
            "MGCMT": {"top_objects": one.top_objects},
            "OCSGA": {"source": one.source},
            "Object-AGBAN": {"source": one.source},
            "ATTR-MMKG-MNER": {"source": one.source},
            "ITA": {"context": one.context},
            "PGIM": {"arguments": one.arguments, "optimizer": one.optimizer},
        }.get(one.system, {})
        assert replace(one, **figures) == replace(other, **figures, **differences), name
        assert [*one.ablations] == [*other.ablations]


def test_unknown_arguments_and_models() -> None:
    experiment = ALL["yu2020_bert-crf_twitter2017"]
    posts = posts_for(experiment, 1, [4])
    for arguments, message in (({"num_heads": 3}, "num_heads"), ({"dropout": "much"}, "dropout")):
        with pytest.raises(ValueError, match=rf"arguments of BERT-CRF: .*{message}"):
            model_for(replace(experiment, arguments=arguments), posts, (48, 1, 4))
    with pytest.raises(ValueError, match=r"there is no model 'BERT-CFR'; there is .*BERT-CRF"):
        model_for(replace(experiment, model="BERT-CFR"), posts, (48, 1, 4))


def test_later_files_override(tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("encoder: other\ntrainer: {epochs: 3}\n", encoding="utf-8")
    first = SETTINGS / "yu2020_bert-crf_twitter2017.yaml"
    plain, changed = read(first), read(first, over)
    assert changed == replace(plain, encoder="other", trainer=replace(plain.trainer, epochs=3))


def test_protocols_override_every_file() -> None:
    protocols = sorted(PROTOCOLS.glob("*.yaml"))
    assert protocols
    for protocol in protocols:
        for path in FILES[::7]:
            changed = read(path, protocol)
            assert changed != ALL[path.stem]
            kept = ("system", "model", "data", "encoder", "arguments", "image", "reported", "ablations")
            assert all(getattr(changed, key) == getattr(ALL[path.stem], key) for key in kept)


def test_ablations_by_name() -> None:
    experiment = ALL["liu2022_mgcmt_twitter2015"]
    without = experiment.without("w/o TextImg")
    assert without.system == "MGCMT, w/o TextImg"
    assert without.arguments == {**experiment.arguments, "ablate": ["w/o TextImg"]}
    assert (without.image, without.similar) == ("none", 4)
    assert without.reported is not None
    assert without.reported.f1 == 73.79
    assert experiment.without("w/o SemAug").similar == 0
    with pytest.raises(ValueError, match="MGCMT has no ablation 'w/o all'; there is w/o SemAug, "):
        experiment.without("w/o all")


@every_file
def test_the_docs_name_every_ablation_and_its_arguments(name: str) -> None:
    page = (SETTINGS.parents[1] / "docs" / "systems.md").read_text(encoding="utf-8")
    experiment = ALL[name]
    for ablation in experiment.ablations:
        assert ablation in page, f"{experiment.system} has an ablation that docs/systems.md does not name"
        arguments = experiment.without(ablation).arguments
        changed = {key: value for key, value in arguments.items() if experiment.arguments.get(key) != value}
        changes = experiment.ablations[ablation]
        if changed:
            changed.pop("num_places", None)  # of the ablation's features
            assert changed == {"ablate": [ablation]} or set(changed) == {"num_iterations"}
        else:  # of the posts
            assert changes.top_objects is not None or changes.extract


@every_file
def test_ablations_are_those_of_the_model(name: str) -> None:
    experiment = ALL[name]
    spelled = {name for name, ablation in experiment.ablations.items() if "ablate" in ablation.arguments}
    if experiment.ablations:
        assert spelled == set(getattr(MODELS[experiment.model], "ABLATIONS", ()))
