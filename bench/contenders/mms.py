"""Multi Model Server, which AWS's own multi-model containers run on."""

from contenders.java import JavaServer


class MultiModelServer(JavaServer):
    name = "MMS"
    settings = "Multi Model Server; 1 worker for each model, as SageMaker's toolkit sets it; logs off; 8 s of warm-up"
    environment = "mms"
    main_class = "com.amazonaws.ml.mms.ModelServer"
    jars = "mms/frontend"
    most_targets = 21
