"""Which extra of the package each command needs, and the sentence for one that is not installed."""

import importlib.util

EXTRAS = {
    "preprocess": "pipelines",
    "cluster": "pipelines",
    "item-embeddings": "train",
    "train": "train",
    "evaluate": "train",
    "inspect": "train",
    "score": "train",
    "compare": "train",
    "export": "serving",
    "validate": "serving",
    "publish": "serving",
    "refresh": "serving",
    "rollback": "serving",
    "serve": "serving",
    "predict": "client",
}
"""Command -> extra. A command that is not here needs the base install alone."""

_PACKAGES = {
    "apache_beam": "Apache Beam",
    "grpc": "grpcio",
    "matplotlib": "matplotlib",
    "scipy": "scikit-learn",
    "sklearn": "scikit-learn",
    "tensorboard": "TensorBoard",
    "tensorflow": "TensorFlow",
    "tensorflow_recommenders": "TensorFlow Recommenders",
    "tensorflow_serving": "the API of TensorFlow Serving",
    "tf_keras": "tf_keras",
}


def require(*modules: str) -> None:
    """Looks for modules without importing them: for commands that start another process, or load a C++ library.

    Raises:
        ModuleNotFoundError: one of them is not installed.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def missing_extra(command: str | None, error: ModuleNotFoundError) -> str | None:
    """What to install, if it is a package of the command's extra that is missing; None for any other module."""
    package = _PACKAGES.get((error.name or "").partition(".")[0])
    extra = EXTRAS.get(command or "")
    if package is None or extra is None:
        return None
    return f"twin-tf {command} needs {package}: pip install 'twin-tf[{extra}]'"
