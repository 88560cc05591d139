from typing import NoReturn


def start(module_app: str) -> NoReturn:
    raise NotImplementedError(f"{module_app} is not started: hostler is the server, and a script has functions for it")
