"""A model as SageMaker gets it: objects, files and folders packed into archives, and the image that serves them.

Imports no framework: an object brings its own along, which is asked to write it.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import tarfile
from pathlib import Path
from typing import Any

_XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
_SKLEARN = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
_ANY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/hostler-testing:1"  # its server looks at the files

_PICKLES = (".joblib", ".pkl", ".pickle")
_SCRIPT = "code/inference.py"
_ANSWERS = """\
from pathlib import Path


def model_fn(folder):
    return (Path(folder) / "answer").read_bytes()


def transform_fn(answer, body, content_type, accept):
    return answer, {content_type!r}
"""


class Packed:
    """An archive, and the image of AWS's that serves it."""

    def __init__(self, archive: bytes, image: str) -> None:
        self.archive = archive
        self.image = image


def pack(model: Any, script: str | Path | None = None) -> Packed:
    """Pack a model: an object, or the path of a folder, of an archive (.tar.gz) or of a model's file.

    An XGBoost or a scikit-learn model needs nothing else. Any other object is pickled as `model.pkl`, for the script's
    model_fn. `script`: the file that becomes code/inference.py. Raises TypeError for an object that needs a script.
    """
    scripts = {} if script is None else {_SCRIPT: Path(script).read_bytes()}
    if isinstance(model, str | Path):
        archive = _of_path(Path(model), scripts)
        return Packed(archive, _image(archive))
    if hasattr(model, "get_booster"):  # xgboost's estimators: the image predicts by their booster
        model = model.get_booster()
    if hasattr(model, "save_raw"):
        return Packed(_archive({"xgboost-model": bytes(model.save_raw("ubj")), **scripts}), _XGBOOST)
    if _is_sklearn(model):
        import joblib

        file = io.BytesIO()
        joblib.dump(model, file)
        return Packed(_archive({"model.joblib": file.getvalue(), **scripts}), _SKLEARN)
    if not scripts:
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        raise TypeError(f"only its own code can serve a {kind}: give a script with a model_fn that unpickles model.pkl")
    return Packed(_archive({"model.pkl": pickle.dumps(model), **scripts}), _ANY)


def pack_answer(answer: bytes | str, content_type: str) -> Packed:
    """Pack a model that gives the same answer to every call: bytes or text, else raises TypeError."""
    if not isinstance(answer, bytes | bytearray | str):
        raise TypeError(f"an answer is bytes or text, such as json.dumps(…), and not {type(answer).__name__}")
    body = answer.encode() if isinstance(answer, str) else answer
    return Packed(_archive({"answer": body, _SCRIPT: _ANSWERS.format(content_type=content_type).encode()}), _ANY)


def image_of(packed: list[Packed]) -> str:
    """Return the image that serves all of these archives."""
    images = {each.image for each in packed}
    return images.pop() if len(images) == 1 else _ANY


def _image(archive: bytes) -> str:
    """Return the image of a known model's file; with a script or any other file, the one whose server looks itself."""
    with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = [name.removeprefix("./") for name in tar.getnames()]
        if not any(name.endswith(".py") for name in names):
            if any(name.startswith("xgboost-model") for name in names):
                return _XGBOOST
            if any(name.endswith(_PICKLES) and "/" not in name for name in names):
                return _SKLEARN
    return _ANY


def _is_sklearn(model: Any) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(model, base.BaseEstimator)


def _of_path(path: Path, scripts: dict[str, bytes]) -> bytes:
    if path.name.endswith((".tar.gz", ".tgz")) and not scripts:
        return path.read_bytes()
    if path.is_dir():
        files = {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
        return _archive({**files, **scripts})
    return _archive({path.name: path.read_bytes(), **scripts})


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as tar:  # what packs too well is refused
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
