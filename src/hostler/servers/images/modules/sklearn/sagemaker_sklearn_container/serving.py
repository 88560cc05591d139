from typing import NoReturn

from sagemaker_containers.beta.framework import transformer, worker

from hostler.servers.scripts import sklearn_defaults


def default_model_fn(model_dir: str) -> NoReturn:
    transformer.default_model_fn(model_dir)


def default_input_fn(input_data: object, content_type: str) -> object:
    return sklearn_defaults.SINGLE.input(input_data, content_type)


def default_predict_fn(input_data: object, model: object) -> object:
    return sklearn_defaults.SINGLE.predict(input_data, model)


def default_output_fn(prediction: object, accept: str) -> worker.Response:
    return transformer.default_output_fn(prediction, accept)
