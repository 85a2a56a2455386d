"""The models of two days, the second trained on from the first."""

from export.saved_model.exporter import export_run
from tests.twin_tf import two_days
from tests.twin_tf.built_once import built_once
from twin_tf.training.train import train_model


@built_once
def second_run(root):
    """A run of the second day that starts from the first day's."""
    manifest = two_days.second_day(root)
    train_model(
        manifest.directory, root / "days/run-2", two_days.config_of(manifest), init_from=two_days.first_run(root)
    )
    return root / "days/run-2"


@built_once
def two_models(root):
    """Either day's run, exported."""
    for number, run in enumerate([two_days.first_run(root), second_run(root)], 1):
        export_run(run, root / f"days/model-{number}")
