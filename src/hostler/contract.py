"""Names of the container contract: paths, environment variables, headers, routes, limits.

Source: AWS developer guide, "Use your own inference code with hosting services" and "Build your own container for
SageMaker multi-model endpoints"; §5 of docs/specification.md. Names that begin with HOSTLER_ are our own, for our own
model servers only.
"""

# Folders (§5.3). An engine without mounts sets SAGEMAKER_BASE_DIR to the real path of the base.
BASE_DIR = "/opt/ml"
MODEL_DIR = "model"  # of a single-model container, below the base
CHANNELS_DIR = "additional-model-data-sources"  # of AdditionalModelDataSources: a folder for each, by its ChannelName
MODELS_DIR = "models"  # of a multi-model container: models/{model_name}/model

# Environment (§5.2)
ENV_BASE_DIR = "SAGEMAKER_BASE_DIR"
ENV_BIND_TO_PORT = "SAGEMAKER_BIND_TO_PORT"
ENV_SAFE_PORT_RANGE = "SAGEMAKER_SAFE_PORT_RANGE"
ENV_MULTI_MODEL = "SAGEMAKER_MULTI_MODEL"  # "true" or unset, because some images only test whether it is set
ENV_PROGRAM = "SAGEMAKER_PROGRAM"
ENV_SUBMIT_DIRECTORY = "SAGEMAKER_SUBMIT_DIRECTORY"
ENV_DEFAULT_ACCEPT = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"
ENV_INFERENCE_ENSEMBLE = "SAGEMAKER_INFERENCE_ENSEMBLE"  # of the XGBoost images, as are the two below
ENV_INFERENCE_OUTPUT = "SAGEMAKER_INFERENCE_OUTPUT"
ENV_BATCH = "SAGEMAKER_BATCH"
ENV_MAX_PAYLOAD_MB = "SAGEMAKER_MAX_PAYLOAD_IN_MB"
ENV_WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"
ENV_REGION = "AWS_REGION"
ENV_DEFAULT_REGION = "AWS_DEFAULT_REGION"
ENV_HOSTNAME = "HOSTNAME"
ENV_NO_METADATA = "AWS_EC2_METADATA_DISABLED"  # "true": AWS's SDKs look for no credentials at the machine's address

# Our own, for our own model servers only
ENV_SOCKET = "HOSTLER_SOCKET"  # unix socket to listen on, instead of a port
ENV_PORTS = "HOSTLER_PORTS"  # "true": the platform reaches every port; processes listen on some of the safe range, too
ENV_LIFELINE = "HOSTLER_LIFELINE"  # descriptor of a pipe's read end; the server exits at once when the pipe closes
ENV_ARTIFACTS = "HOSTLER_ARTIFACTS"  # folder of the shared artifacts; a model's folder may link into it
ENV_LENIENT_BODIES = "HOSTLER_LENIENT_BODIES"  # the setting lenient_bodies is true; else unset
ENV_IMAGE = "HOSTLER_IMAGE"  # repository and tag of AWS's image, such as sagemaker-xgboost:1.5-1; empty: any other
ENV_FRAMEWORK = "HOSTLER_FRAMEWORK"  # xgboost | sklearn | torch | onnx | script | canned | auto

# Our own, of a pod in a cluster: what the engine gives it, and hostler's agent in it takes for granted
AGENT_PORT = 7901  # of the agent's page
AGENT_FOLDER = "/hostler"  # the volume that all containers of the pod share, as the agent sees it
AGENT_PROOFS = "/var/run/hostler"  # where the agent has its token, and ca.crt
ARTIFACTS_DIR = ".artifacts"  # below the base: the cache, as a container of ours sees it

SERVE = "serve"  # the only argument of a container's command (§5.1)
DEFAULT_PORT = 8080
MOST_CONTAINERS = 15  # of a model (CreateModel)
ONLY_HOSTNAME = "container-0.local"  # of the only container of an instance (unverified, §5.1)
DEFAULT_PROGRAM = "inference.py"  # an artifact's script, in its folder CODE_DIR (§5.10)
CODE_DIR = "code"

# Routes (§5.4, §5.5, §5.8)
PING = "/ping"
INVOCATIONS = "/invocations"
MODELS = "/models"
EXECUTION_PARAMETERS = "/execution-parameters"

# Invocation headers, in lower case as the parsers return them (§1.4, §1.5)
H_ACCEPT = "x-amzn-sagemaker-accept"  # InvokeEndpointWithResponseStream's Accept
H_CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
H_TARGET_MODEL = "x-amzn-sagemaker-target-model"
H_TARGET_VARIANT = "x-amzn-sagemaker-target-variant"
H_TARGET_CONTAINER = "x-amzn-sagemaker-target-container-hostname"
H_INFERENCE_ID = "x-amzn-sagemaker-inference-id"
H_ENABLE_EXPLANATIONS = "x-amzn-sagemaker-enable-explanations"
H_INFERENCE_COMPONENT = "x-amzn-sagemaker-inference-component"
H_SESSION_ID = "x-amzn-sagemaker-session-id"
H_PREFIX_AWARE_ID = "x-amzn-sagemaker-prefix-aware-id"
H_TRACE_PARENT = "traceparent"  # both of W3C Trace Context
H_TRACE_STATE = "tracestate"

# Our own, for processes of our own model servers alone: "request-id until [stream-until]". The times are seconds since
# the epoch, with decimals: when the caller's wait ends, and when it ends for a stream whose first piece was sent.
H_CALL = "x-hostler-call"

# Limits (§4.3)
MAX_BODY = 6_291_456  # bytes of a synchronous request's body
MAX_BETWEEN_CONTAINERS = 5_242_880  # bytes of a body between two containers of a serial pipeline
MAX_MESSAGE = 2048  # characters of Message and OriginalMessage
MAX_STREAM = 480.0  # seconds that a streamed response may take in all (unverified)
PING_TIMEOUT = 2.0  # seconds
PING_PERIOD = 5.0  # seconds
STOP_GRACE = 30.0  # seconds between SIGTERM and SIGKILL
LOAD_TIMEOUT = 360.0  # seconds that a target's load may continue after its callers got their answers (§6.3)
