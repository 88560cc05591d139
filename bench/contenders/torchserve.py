"""TorchServe, with a handler for XGBoost."""

from typing import ClassVar

from contenders.java import JavaServer


class TorchServe(JavaServer):
    name = "TorchServe"
    settings = "1 worker for each model; tokens, metrics and logs off; 8 s of warm-up"
    environment = "torchserve"
    unsupported: ClassVar = {**JavaServer.unsupported, "pipeline": "left out: its workflows are not set up here"}
    main_class = "org.pytorch.serve.ModelServer"
    jars = "ts/frontend"
    arguments = ("--disable-token-auth", "--enable-model-api", "-ncs")
    properties: ClassVar = {
        "disable_system_metrics": "true",
        "metrics_address": "http://127.0.0.1:0",
        "enable_grpc": "false",
    }
    most_targets = 6
    start_within = 120.0
