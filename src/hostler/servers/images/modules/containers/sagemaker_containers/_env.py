import os
from typing import NoReturn

base_dir = os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")
code_dir = os.path.join(base_dir, "code")
model_dir = os.path.join(base_dir, "model")
input_dir = os.path.join(base_dir, "input")
output_dir = os.path.join(base_dir, "output")
output_data_dir = os.path.join(output_dir, "data")


def num_cpus() -> int:
    return os.cpu_count() or 1


def num_gpus() -> int:
    return 0


class ServingEnv:
    def __init__(self) -> None:
        program = os.environ.get("SAGEMAKER_PROGRAM")
        self.user_entry_point = program
        self.module_name = program.removesuffix(".py") if program else program
        self.module_dir = os.environ.get("SAGEMAKER_SUBMIT_DIRECTORY", code_dir)
        self.model_dir = model_dir
        self.log_level = int(os.environ.get("SAGEMAKER_CONTAINER_LOG_LEVEL", "20"))
        self.default_accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "application/json")
        self.model_server_timeout = int(os.environ.get("SAGEMAKER_MODEL_SERVER_TIMEOUT", "60"))
        self.model_server_workers = int(os.environ.get("SAGEMAKER_MODEL_SERVER_WORKERS", num_cpus()))
        self.http_port = os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")
        self.safe_port_range = os.environ.get("SAGEMAKER_SAFE_PORT_RANGE")
        self.num_cpus = num_cpus()
        self.num_gpus = num_gpus()


class TrainingEnv:
    def __init__(self, *_: object, **__: object) -> None:
        training_only()


def training_only(*_: object, **__: object) -> NoReturn:
    """Refuse a call that only a training job makes: a script for both is imported, and hosted, all the same."""
    raise NotImplementedError("this function of sagemaker_containers is for training, and hostler hosts models alone")
