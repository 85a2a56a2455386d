"""A comparison of systems: what it chooses, what it keeps, what it reports."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.twin_tf.built_once import shared_root
from tests.twin_tf.recorded_steps import HALVED, Recorded
from tests.twin_tf.small_run import small_config, small_data
from twin_tf.config import load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.evaluation.predictions import Predictions
from twin_tf.evaluation.user_figures import UserFigures
from twin_tf.experiments.comparison.measurements import Measurements
from twin_tf.experiments.comparison.page import findings
from twin_tf.experiments.comparison.rates import Rates, read_rates, shared_settings
from twin_tf.experiments.comparison.report import write_comparison
from twin_tf.experiments.comparison.run import Comparison
from twin_tf.experiments.comparison.summaries import paired, paired_gauc, summary
from twin_tf.experiments.comparison.systems import SYSTEMS, Factors, System, chosen_systems, own_system
from twin_tf.experiments.comparison.tables import quality_rows
from twin_tf.records.format import Manifest
from twin_tf.runs.item_embeddings import make_item_embeddings
from twin_tf.search import STRATEGIES, make_search

pytestmark = pytest.mark.integration


def result(key: str, seed: int, auc: float, **changes: Any) -> dict[str, Any]:
    lengths = [
        {"from": low, "to": None, "targets": 50, "auc": auc, "gauc": auc - 0.01, "logloss": 0.6} for low in (0, 50, 800)
    ]
    return {
        "key": key, "seed": seed, "auc": auc, "gauc": auc - 0.01, "logloss": 0.6, "by_history_length": lengths,
        "train_seconds": 10.0, "examples_per_s": 1000.0, "train_peak_rss_mb": 900.0, **changes,
    }  # fmt: skip


def report_of(results: dict[str, list[dict[str, Any]]], **changes: Any) -> dict[str, Any]:
    extra = {"latency": {"p50_ms": 12.0, "p99_ms": 15.0, "parameters": 1_000_000}}
    curve = [{"size": 10, "share": 0.1}, {"size": 100, "share": 1.0}]
    return {
        "data": "toy", "trainings": 7, "targets": {"train": 10, "test": 5}, "seeds": [1, 2],
        "labels": {key: SYSTEMS[key].label for key in RESULTS},
        "ablations": ["twin_no_bias"], "results": results,
        "yardsticks": {"counting_kind": {"label": "counting by kind, whole history", "auc": 0.62, "gauc": 0.62,
                                         "logloss": None},
                       "item_rate": {"label": "item rate", "auc": 0.61, "gauc": 0.61, "logloss": 0.5}},
        "extras": {"twin": {**extra, "by_size": curve, "by_age": [{"age": 0, "share": 1.0}, {"age": 9, "share": 0.8}]},
                   "twin_no_bias": extra, "din": extra, "avg_pooling": {**extra, "by_size": None}},
        "history_length": 100, "records": 40, "epochs": 1, "seconds": 90.0, "commit": "abc", "machine": {"cpus": 2},
        "rates": Rates().to_plain(), **changes,
    }  # fmt: skip


RESULTS = {
    "avg_pooling": [result("avg_pooling", 1, 0.60), result("avg_pooling", 2, 0.61)],
    "din": [result("din", 1, 0.64), result("din", 2, 0.66)],
    "twin": [result("twin", 1, 0.70), result("twin", 2, 0.71)],
    "twin_no_bias": [result("twin_no_bias", 1, 0.68)],
}


def test_means_and_paired_differences_over_the_seeds() -> None:
    found = summary(RESULTS["din"])
    assert found["auc_mean"] == pytest.approx(0.65) and found["auc_std"] == pytest.approx(0.02 / np.sqrt(2))
    assert summary(RESULTS["twin_no_bias"])["auc_std"] is None
    assert paired(RESULTS["twin"], RESULTS["din"], "auc") == pytest.approx([0.06, 0.05])
    assert paired(RESULTS["twin"], RESULTS["twin_no_bias"], "auc") == pytest.approx([0.02])
    lead = paired_gauc(RESULTS["twin"], RESULTS["din"])
    assert lead is not None
    assert lead["mean"] == pytest.approx(0.055) and lead["std"] == pytest.approx(0.01 / np.sqrt(2))
    assert paired_gauc(RESULTS["twin"], [result("din", 3, 0.6)]) is None


def with_user_figures(workdir: Path, noises: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    """Results of two seeds of systems whose scores have noise, each with a run that kept its users' figures."""
    rng, user = np.random.default_rng(1), np.repeat(np.arange(40), 20)
    label = rng.integers(0, 2, 800).astype(np.int8)
    results: dict[str, list[dict[str, Any]]] = {key: [] for key in noises}
    for key, noise in noises.items():
        for seed in (1, 2):
            predictions = Predictions(user, label, np.exp(label + noise * rng.normal(size=800)).astype(np.float32))
            run = workdir / f"{key}-{seed}-{noise}"
            run.mkdir()
            UserFigures.of(predictions).save(run, "test")
            metrics = predictions.metrics.to_plain()
            results[key].append(result(key, seed, 0.5, **{"gauc": metrics["gauc"], "run": str(run)}))
    return results


def test_differences_are_paired_by_seed_and_drawn_over_users(tmp_path: Path) -> None:
    results = with_user_figures(tmp_path, {"twin": 0.5, "din": 3.0})
    write_comparison(tmp_path, report_of(results, ablations=[], extras={}))
    found = json.loads((tmp_path / "report.json").read_text())["paired"]
    assert set(found) == {"din"} and found["din"]["n"] == 2
    assert 0 < found["din"]["low"] < found["din"]["mean"] < found["din"]["high"] and found["din"]["beyond_noise"]
    page = (tmp_path / "report.md").read_text()
    between = f"{found['din']['low']:+.4f} to {found['din']['high']:+.4f}"
    assert f"| {between} | 2 |" in page and f"; 95 % over users {between}, more than noise)." in page
    write_comparison(tmp_path, report_of(with_user_figures(tmp_path, {"twin": 2, "din": 2}), ablations=[], extras={}))
    found = json.loads((tmp_path / "report.json").read_text())["paired"]["din"]
    assert found["low"] < 0 < found["high"] and not found["beyond_noise"]
    page = (tmp_path / "report.md").read_text()
    assert f"{found['low']:+.4f} to {found['high']:+.4f} (noise) | 2 |" in page and ", no more than noise)." in page
    write_comparison(tmp_path, report_of(RESULTS))
    found = json.loads((tmp_path / "report.json").read_text())["paired"]
    assert found["twin_no_bias"] == {
        "mean": pytest.approx(0.02), "std": None, "n": 1, "by_seed": [pytest.approx(0.02)],
        "low": None, "high": None, "beyond_noise": None,
    }  # fmt: skip


def test_the_page_says_who_wins_and_who_stays_below_counting(tmp_path: Path) -> None:
    write_comparison(tmp_path, report_of(RESULTS))
    content = json.loads((tmp_path / "report.json").read_text())
    said = findings(content)
    assert said[0] == "AUC: TWIN 0.7050, +0.0550 against the best other system, DIN (± 0.0071 over 2 seeds)."
    assert "counting by kind" in said[2] and "average pooling do not beat it" in said[2] and "DIN" not in said[2]
    assert len(said) == 3, "TWIN beats it"
    page = (tmp_path / "report.md").read_text()
    assert (
        "| DIN | 0.6500 ± 0.0141 | 0.6400 ± 0.0141 | 0.6000 ± 0.0000 | +0.0550 ± 0.0071 | - | 2 |" in page
        and "TWIN without bias" in page
    )
    shown = {"quality", "paired", "history_length", "consistency", "table_age", "ablations"}
    assert {path.stem for path in tmp_path.glob("*.png")} == shown
    assert all(f"({name}.png)" in page for name in shown)
    assert content["systems"]["twin"]["gauc_mean"] == pytest.approx(0.695)
    assert set(content["consistency"]) == {"twin"} and set(content["ablation"]) == {"twin_no_bias"}
    assert quality_rows(content)[-2:] == [
        ("counting by kind, whole history (no network)", "0.6200", "0.6200", "-", "-", "-", "-"),
        ("item rate (no network)", "0.6100", "0.6100", "0.5000", "-", "-", "-"),
    ]
    content["yardsticks"]["item_rate"]["gauc"] = 0.7
    assert findings(content)[-1] == (
        "TWIN does not beat what needs no network: GAUC 0.6950 against 0.7000 of item rate."
    )


def test_a_comparison_that_has_just_begun_says_so(tmp_path: Path) -> None:
    write_comparison(tmp_path, report_of({}, extras={}, yardsticks={}))
    assert "Not finished (0 of 7 trainings done)" in (tmp_path / "report.md").read_text()


def test_the_page_says_which_systems_have_relevance_statistics(tmp_path: Path) -> None:
    def page(*have: str) -> str:
        results = {
            key: [{**one, "relevance_statistics": key in have} for one in found] for key, found in RESULTS.items()
        }
        write_comparison(tmp_path, report_of(results))
        return (tmp_path / "report.md").read_text()

    assert "`model.relevance_statistics` is true in all." in page(*RESULTS)
    assert "`model.relevance_statistics` is false in all." in page()
    assert "`model.relevance_statistics` is true in DIN, TWIN." in page("twin", "din")


def test_a_comparison_of_twin_alone_says_what_it_is_worth(tmp_path: Path) -> None:
    alone = report_of({"twin": RESULTS["twin"]}, trainings=2, labels={"twin": "TWIN"})
    (tmp_path / "consistency.png").write_bytes(b"of an earlier comparison")
    write_comparison(tmp_path, {**alone, "extras": {"twin": {**alone["extras"]["twin"], "by_size": None}}})
    content = json.loads((tmp_path / "report.json").read_text())
    assert findings(content)[0] == "TWIN alone: AUC 0.7050, GAUC 0.6950."
    assert not (tmp_path / "consistency.png").exists()


def test_systems_are_chosen_by_name() -> None:
    assert [system.key for system in chosen_systems("din, twin")] == ["din", "twin"]
    assert {system.search for system in chosen_systems("all")} <= set(STRATEGIES)
    assert not any(system.ablation for system in chosen_systems("main"))
    with pytest.raises(ConfigError, match="no system 'dinn'; did you mean 'din'"):
        chosen_systems("dinn,twin")
    with pytest.raises(ConfigError, match="must include twin"):
        chosen_systems("din,eta")


SHIPPED = ["complete_journey", "kuairand_1k", "kuairand_27k", "movielens_1m", "movielens_20m", "simulated", "taobao"]


def test_a_system_of_ones_own_is_compared_like_the_others() -> None:
    systems = chosen_systems("din,twin", ["SIM Hard by brand: search=sim_hard searches.sim_hard.category=brand"])
    assert [system.key for system in systems] == ["din", "sim_hard_by_brand", "twin"]
    training = load_config("complete_journey").training
    config = load_config("complete_journey", systems[1].variant("", training, Factors()).overrides)
    assert (config.model.search, config.model.searches.sim_hard.category) == ("sim_hard", "brand")


@pytest.mark.parametrize("text", ["", "label", "label:", ": heads=2", "a: heads", "DIN: heads=2", "a: search=magic"])
def test_a_system_of_ones_own_has_a_name_and_settings(text: str) -> None:
    with pytest.raises(ConfigError):
        chosen_systems("din,twin", [text])


@pytest.mark.parametrize("name", SHIPPED)
def test_every_system_is_made_of_the_shipped_configurations(name: str) -> None:
    for system in SYSTEMS.values():
        base = load_config(name).training
        config = load_config(name, system.variant("embeddings", base, Factors(0.5, 2)).overrides)
        assert config.training.dense_learning_rate == base.dense_learning_rate * 2
        assert config.training.embedding_learning_rate == base.embedding_learning_rate / 2
        assert not any("rate" in setting for setting in system.variant("embeddings", base, Factors()).overrides)
        assert config.schema is not None
        assert make_search(config.model, config.schema, 8, 1).name == system.search
        assert (config.training.item_embeddings == "embeddings") == system.needs_embeddings


class Told(Comparison):
    """Runs nothing but what `Recorded` pretends to."""

    def __init__(self, *given: Any, steps: Recorded) -> None:
        super().__init__(*given)
        steps._cache = self._cache
        self._steps = steps
        self._measurements = NoMeasurements(self._workdir, self._prepared, None, 1, True, steps, "")

    def _yardsticks(self, path: Path) -> dict[str, Any]:
        return {}


class NoMeasurements(Measurements):
    """Measures nothing."""

    def of(self, system: System, run: str) -> dict[str, Any]:
        latency = {"p50_ms": 12.0, "p99_ms": 15.0, "parameters": 1_000_000}
        return {"ground_truth": {"targets": 3, "recall": 0.5, "precision": 0.4, "guessed": 0.1}, "latency": latency}

    def look(self, system: System, run: str) -> None: ...

    def serve(self, system: System, run: str) -> Path:
        return Path(run)

    def time(self, system: System, run: str, model: Path) -> None: ...


@pytest.mark.slow
def test_every_system_is_tuned_with_the_same_budget_and_keeps_its_best_rates(tmp_path: Path) -> None:
    root = shared_root()
    small_data(root)
    systems, steps = chosen_systems("din,twin,twin_no_bias"), Recorded()
    given = (small_config(), str(root / "prepared"), systems, (1, 2))
    report = Told(tmp_path / "first", *given, read_rates("0.5,1,2/1"), None, 2, steps=steps).run()
    assert steps.asked[:7] == ["train"] * 7 and steps.asked.count("train") == 7 + 1 + 1 + 1
    halved, same = {"embedding": 0.5, "dense": 1.0}, {"embedding": 1.0, "dense": 1.0}
    assert report["factors"] == {"din": halved, "twin": same, "twin_no_bias": same}
    assert report["rates"]["valid_gauc"]["din"] == {"0.25/1": 0.7, "0.5/1": 0.8, "1/1": 0.7, "2/1": 0.6}
    last = [text for text in steps.settings if "training.seed=2" in text and text.startswith("train")]
    assert len(last) == 2 and HALVED in last[0] and "learning_rate" not in last[1]
    page = (tmp_path / "first" / "report.md").read_text()
    assert (
        "Each tried 0.5, 1, 2 times the configured learning rate of the tables with 1 times that of the dense" in page
    )
    assert "50 targets of 5 users: one figure has a standard error of 0.0123 over users" in page
    assert "| DIN | 0.5 | 1 | 0.8000 | 0.7000 | 0.6000 | 4 |" in page
    assert "| TWIN | 1 | 1 | 0.8000 | 0.7000 | 0.6000 | 3 |" in page
    assert "at the edge" not in page and "| DIN | 50.0% | 40.0% | 10.0% |" in page
    again = Recorded()
    cached = str(tmp_path / "first" / "rates.json")
    second = Told(tmp_path / "second", *given, read_rates(cached), steps=again).run()
    assert again.asked.count("train") == 5 and second["factors"] == report["factors"]
    assert second["rates"]["other_code"] == ""
    own = (*given[:2], [own_system("one head: heads=1"), *systems], (1,))
    third = Told(tmp_path / "third", *own, read_rates(cached), steps=Recorded()).run()
    assert third["rates"]["origin"]["seed"] == 1 and set(third["rates"]["valid_gauc"]) == {"din", "twin", "one_head"}
    assert not (tmp_path / "third" / "rates.json").exists()
    page = (tmp_path / "third" / "report.md").read_text()
    assert "Rates are those of an earlier comparison" in page and "they were chosen by other code" not in page
    with pytest.raises(ConfigError, match="no rates were tried for 'eta'"):
        read_rates(cached).of(SYSTEMS["eta"])
    plain = json.loads(Path(cached).read_text())
    (tmp_path / "old.json").write_text(json.dumps({**plain, "code": "other", "commit": "abc"}))
    Told(tmp_path / "fourth", *given, read_rates(str(tmp_path / "old.json")), steps=Recorded()).run()
    assert "they were chosen by other code, commit abc, and are settings" in (tmp_path / "fourth/report.md").read_text()


def test_what_was_measured_is_shown_while_the_rest_goes_on(tmp_path: Path) -> None:
    root = shared_root()
    small_data(root)
    given = (small_config(), str(root / "prepared"), chosen_systems("din,twin,twin_no_bias"))
    before = Told(tmp_path, *given, (1,), Rates(), steps=Recorded()).run()
    page = (tmp_path / "report.md").read_text()
    assert (
        "Not finished" not in page and "## Cost" in page and "| TWIN without bias | 0.7000 | 0.6000 | +0.0000" in page
    )
    with pytest.raises(KeyboardInterrupt):
        Told(tmp_path, *given, (1, 2), Rates(), steps=Recorded(stop_at="train")).run()
    page = (tmp_path / "report.md").read_text()
    assert "Not finished (3 of 5 trainings done)" in page and "## Cost" in page and "| DIN | 0.7000 |" in page
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["seconds"] > before["seconds"] and (tmp_path / "ablations.png").exists()


def test_counting_goes_by_every_category_that_a_system_goes_by(tmp_path: Path) -> None:
    root = shared_root()
    small_data(root)
    own = own_system("SIM Hard by topic: search=sim_hard searches.sim_hard.category=topic")
    systems = [own, *chosen_systems("sim_hard,twin")]
    comparison = Comparison(tmp_path, small_config(), str(root / "prepared"), systems, (1,), Rates())
    comparison._config.save(tmp_path / "config.yaml")
    found = comparison._yardsticks(tmp_path / "config.yaml")
    counted = [f"counting_{kind}{seen}" for kind in ("category", "topic") for seen in ("_latest_100", "")]
    assert list(found) == ["item_rate", "item_user_rate", *counted, "trees"]
    assert len({found[key]["gauc"] for key in counted}) == 4
    assert comparison._yardsticks(tmp_path / "config.yaml") == found


def test_settings_that_do_not_suit_a_system_are_told_before_the_first_training(tmp_path: Path) -> None:
    root = shared_root()
    small_data(root)
    steps = Recorded()
    config = small_config("model.searches.sim_hard.category=null")
    given = (config, str(root / "prepared"), chosen_systems("all"), (1,))
    with pytest.raises(ConfigError, match=r"sim_hard: .*needs model\.searches\..*leave it out of --systems"):
        Told(tmp_path, *given, read_rates("1"), steps=steps).run()
    assert steps.asked == []


@pytest.mark.parametrize(
    ("setting", "rates", "said"),
    [
        ("model.bias=false", "1", "wants TWIN whole"),
        ("model.relevance=raw", "1", "wants TWIN whole"),
        ("model.searches.sim_hard.category=topics", "1", "'topics' is no inherent feature .*; did you mean 'topic'"),
        ("training.dense_learning_rate=0.5", "rates.json", "dense_learning_rate 0.003, not 0.5; tune again with"),
        ("model.heads=2", "rates.json", "chosen with other settings, model.heads 4, not 2; tune again with --rates"),
        ("model.heads=4", "other.json", "chosen on other data; tune again with --rates"),
        ("schema.name=other", "1", "was prepared with another schema than the configuration holds"),
    ],
)
def test_what_would_make_a_comparison_unfair_is_told_at_once(
    tmp_path: Path, setting: str, rates: str, said: str
) -> None:
    root = shared_root()
    small_data(root)
    data = hashlib.sha256(Manifest.load(root / "prepared").to_json().encode()).hexdigest()
    origin = {"data": "simulated", "manifest_sha256": data, "seed": 1, "code": "", "commit": ""}
    origin["settings"] = shared_settings(small_config())
    (tmp_path / "rates.json").write_text(json.dumps({"embedding": [1, 2], "dense": [1], "valid_gauc": {}, **origin}))
    origin["manifest_sha256"] = "of other data"
    (tmp_path / "other.json").write_text(json.dumps({"embedding": [1, 2], "dense": [1], "valid_gauc": {}, **origin}))
    tried = read_rates(str(tmp_path / rates) if "json" in rates else rates)
    with pytest.raises(ConfigError, match=said):
        Comparison(tmp_path / "out", small_config(setting), str(root / "prepared"), [], (1,), tried)
    assert not (tmp_path / "out").exists()


def test_clustered_histories_are_refused_where_they_would_mislead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shared_root()
    clustered = small_data(root).schema.clustered(True)
    monkeypatch.setattr(Manifest, "schema", property(lambda _: clustered))
    prepared, truth = str(root / "prepared"), str(root / "raw" / "truth")
    with pytest.raises(ConfigError, match="histories are clustered"):
        Comparison(tmp_path / "out", small_config(), prepared, [], (1,), read_rates("1"), truth)
    with pytest.raises(ConfigError, match="make the embeddings of the data before clustering"):
        make_item_embeddings(prepared, tmp_path / "embeddings")


def test_truth_is_looked_for_before_the_first_training(tmp_path: Path) -> None:
    root = shared_root()
    small_data(root)
    with pytest.raises(ConfigError, match=r"no matches\.parquet"):
        Comparison(tmp_path, small_config(), str(root / "prepared"), [], (1,), read_rates("1"), str(tmp_path))
