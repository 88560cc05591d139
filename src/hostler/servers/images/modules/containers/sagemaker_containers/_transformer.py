from typing import NoReturn

from sagemaker_containers import _encoders, _worker


def default_model_fn(model_dir: str) -> NoReturn:
    raise NotImplementedError("Please provide a model_fn implementation.")


def default_input_fn(input_data: object, content_type: str) -> object:
    return _encoders.decode(input_data, content_type)


def default_predict_fn(data: object, model: object) -> NoReturn:
    raise NotImplementedError("Please provide a predict_fn implementation.")


def default_output_fn(prediction: object, accept: str) -> _worker.Response:
    return _worker.Response(_encoders.encode(prediction, accept), mimetype=accept)
