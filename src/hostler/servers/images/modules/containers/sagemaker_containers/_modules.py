import importlib
from types import ModuleType

from sagemaker_containers._env import training_only

DEFAULT_MODULE_NAME = "default_user_module_name"
download_and_install = install = prepare = run = run_module = training_only


def import_module(uri: str, name: str = DEFAULT_MODULE_NAME, cache: bool | None = None) -> ModuleType:
    """Import a module that is on the path."""
    return importlib.import_module(name)


def exists(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
