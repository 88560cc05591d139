"""What the failure doctor says: golden texts, one for each mistake, and the limit that none may pass."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler import failures
from hostler.core.endpoints import failure_reason
from hostler.core.endpoints.failure_facts import Facts, Ping
from hostler.errors import ArchiveBad, ArtifactBad, ArtifactError, ArtifactMissing, StorageUnavailable
from hostler.failures import ADVICE, Code, Failure

AWS = (
    "The primary container for production variant AllTraffic did not pass the ping health check."
    " Please check CloudWatch logs for this endpoint. "
)
SLOW = (
    "give it longer: ContainerStartupHealthCheckTimeoutInSeconds (60 to 3600) in the production variant, or"
    " startup_timeout in hostler.toml."
)
MEMORY = (
    "A smaller model, fewer instances or containers, or a machine with more memory helps; on AWS, a larger"
    " InstanceType."
)
LINT = "hostler lint model.tar.gz checks an archive before anything starts."
OWN = (
    "Under bubblewrap, /tmp, /var/tmp and /run are the container's own, but for what of /tmp its command names: put it"
    " elsewhere"
)
SILENT = "It wrote nothing to its log."
TRACEBACK = (
    "Traceback (most recent call last):\n  File \"serve.py\", line 1\nModuleNotFoundError: No module named 'cv2.dnn'"
)


def foreign(**known: object) -> Facts:
    return Facts("primary", **{"port": 20000, "when": "In 5 seconds", **known})  # type: ignore[arg-type]


def ours(code: str, message: str, advice: str | None = None, *, before: str = "", **known: object) -> Facts:
    """One of our own servers that ended with this failure, after what else is in its log."""
    line = f"the model does not load: {message}"
    failure = Failure(code, message, ADVICE.get(Code(code), "") if advice is None else advice, line)
    log = f"{before}\n{line}".strip()
    return Facts("primary", **{"ours": True, "exit": 1, "failure": failure, "log": log, **known})  # type: ignore[arg-type]


def image(**known: object) -> Facts:
    return foreign(**{"port": 8080, "engine": "docker", **known})


THEIRS = 'Traceback (most recent call last):\n  File "inference.py", line 1, in <module>'

# As nginx 1.22 wrote them.
NGINX_WRITES = """\
nginx: [alert] could not open error log file: open() "/var/log/nginx/error.log" failed (30: Read-only file system)
2026/11/30 08:14:45 [emerg] 3#3: mkdir() "/var/lib/nginx/body" failed (30: Read-only file system)"""
NGINX_OWNS = '2026/11/30 08:14:56 [emerg] 3#3: chown("/var/lib/nginx/body", 65534) failed (1: Operation not permitted)'

MISTAKES = {
    "not listening": (
        foreign(ping=Ping("/ping")),
        "In 5 seconds, GET /ping was not answered: nothing in the container listens on a port. It must serve HTTP on"
        " the"
        f" port that SAGEMAKER_BIND_TO_PORT names. If it is only slow to start, {SLOW} {SILENT}",
    ),
    "wrong port": (
        foreign(ping=Ping("/ping"), listening=(9000, 9001), log="serving on 9000"),
        "In 5 seconds, GET /ping was not answered: the container listens on port 9000, 9001, but it was told 20000, in"
        " SAGEMAKER_BIND_TO_PORT. Let it listen on the port that SAGEMAKER_BIND_TO_PORT names, and on 8080 only where"
        " that is not set: here each container has a port of its own. Its last lines: serving on 9000",
    ),
    "the port of the contract": (
        foreign(ping=Ping("/ping"), listening=(8080,), log='open() failed: "/var/log/x/y" (Read-only file system)'),
        "In 5 seconds, GET /ping was not answered: the container listens on port 8080, but it was told 20000, in"
        " SAGEMAKER_BIND_TO_PORT. Let it listen on the port that SAGEMAKER_BIND_TO_PORT names, and on 8080 only where"
        ' that is not set: here each container has a port of its own. Its last lines: open() failed: "/var/log/x/y"'
        " (Read-only file system)",
    ),
    "a write that is refused": (
        foreign(ping=Ping("/ping"), log=NGINX_WRITES),
        "In 5 seconds, GET /ping was not answered. It could not write in /var/log/nginx, /var/lib/nginx: a command sees"
        " this machine's files read-only. Give it folders of its own there, in memory: under [images] of hostler.toml,"
        ' in place of the command, {command = "...", tmpfs = ["/var/log/nginx", "/var/lib/nginx"]}. Its last lines: '
        + NGINX_WRITES,
    ),
    "a refused write, and its end": (
        foreign(exit=1, log="ln: failed to create symbolic link '/var/log/nginx/access.log': Read-only file system"),
        "The container exited with code 1 before it answered a ping. It could not write in /var/log/nginx: a command"
        " sees this machine's files read-only. Give it folders of its own there, in memory: under [images] of"
        ' hostler.toml, in place of the command, {command = "...", tmpfs = ["/var/log/nginx"]}. Its last lines: ln:'
        " failed to create symbolic link '/var/log/nginx/access.log': Read-only file system",
    ),
    "an owner that cannot be changed": (
        foreign(exit=0, log=NGINX_OWNS),
        "The container exited with code 0 before it answered a ping. It could not change its user, or a file's owner: a"
        " command has no such right here, even started by root. Let it keep its user (in nginx.conf: user root;), or"
        f" let an ordinary user start hostler. Its last lines: {NGINX_OWNS}",
    ),
    "no HTTP": (
        foreign(ping=Ping("/ping"), listening=(20000,)),
        "In 5 seconds, GET /ping was not answered with HTTP, though the container listens on its port, 20000. It must"
        f" speak HTTP/1.1 there, without TLS. {SILENT}",
    ),
    "a ping that hangs": (
        foreign(ping=Ping("/ping", timed_out=True), listening=(20000,)),
        "In 5 seconds, GET /ping was not answered within 2 seconds, though the connection was taken. Answer it at once,"
        f" also while a model loads or a request runs: do those in another thread or process. {SILENT}",
    ),
    "ping is not there": (
        foreign(ping=Ping("/ping", 404)),
        "In 5 seconds, GET /ping was answered with 404 instead of 200. Add that route: a container must answer GET"
        " /ping"
        f" with 200 as soon as it can serve. {SILENT}",
    ),
    "ping is refused": (
        foreign(ping=Ping("/ping", 401)),
        "In 5 seconds, GET /ping was answered with 401 instead of 200. GET /ping comes without credentials,"
        " parameters or"
        f" a body, and must be answered with 200. {SILENT}",
    ),
    "ping fails": (
        foreign(ping=Ping("/ping", 500), log="ZeroDivisionError"),
        "In 5 seconds, GET /ping was answered with 500 instead of 200. Its log should say what fails in its answer"
        " to GET"
        " /ping. Its last lines: ZeroDivisionError",
    ),
    "ping is answered with another 2xx": (
        foreign(ping=Ping("/ping", 204)),
        "In 5 seconds, GET /ping was answered with 204 instead of 200. Only 200 counts, no other 2xx and no"
        " redirection."
        f" {SILENT}",
    ),
    "slow start": (
        foreign(ping=Ping("/ping", 503)),
        "In 5 seconds, GET /ping was answered with 503 instead of 200. A server says that while it is not ready yet. If"
        f" it is only slow to start, {SLOW} {SILENT}",
    ),
    "slow load by our own server": (
        Facts("primary", ours=True, ping=Ping("/ping", 503), when="In 240 seconds"),
        "In 240 seconds, GET /ping was answered with 503 instead of 200: the model was still being loaded. If it is"
        " only"
        f" slow, {SLOW} {SILENT}",
    ),
    "multi-model without GET /models": (
        foreign(ping=Ping("/models", 404)),
        "In 5 seconds, GET /models was answered with 404 instead of 200, though /ping was passed. A container with Mode"
        ' MultiModel must answer GET /models with 200 and {"models": []} at its start. Where an image has no such API,'
        f" leave Mode out. {SILENT}",
    ),
    "crash": (
        foreign(exit=3, log="one\ntwo"),
        "The container exited with code 3 before it answered a ping. Its last lines: one\ntwo",
    ),
    "done at once": (
        foreign(exit=0),
        "The container exited with code 0 before it answered a ping. Its command must run in the foreground until"
        f" SIGTERM: one that makes itself a daemon ends it. {SILENT}",
    ),
    "killed": (
        foreign(exit=-9),
        "The container was ended by signal 9 (SIGKILL) before it answered a ping. The system does that when memory runs"
        f" out; else somebody killed it. {MEMORY} {SILENT}",
    ),
    "killed below a shell": (
        foreign(exit=137),
        "The container exited with code 137 before it answered a ping. The system does that when memory runs out; else"
        f" somebody killed it. {MEMORY} {SILENT}",
    ),
    "crash in native code": (
        foreign(exit=-11),
        "The container was ended by signal 11 (SIGSEGV) before it answered a ping. It crashed in native code: a damaged"
        f" model file, or libraries that do not fit together, do that. {SILENT}",
    ),
    "out of memory, in words": (
        foreign(exit=1, log="MemoryError"),
        "The container exited with code 1 before it answered a ping. It ran out of memory."
        f" {MEMORY} Its last lines: MemoryError",
    ),
    "import error": (
        foreign(exit=1, log=TRACEBACK),
        "The container exited with code 1 before it answered a ping. Python found no module named cv2.dnn. Install the"
        " package that has it (such as pip install cv2) for the image's command under [images]. Its last lines:"
        f" {TRACEBACK}",
    ),
    "no such program": (
        foreign(exit=1, log="bwrap: execvp serve-it: No such file or directory"),
        "The container could not be started: the program serve-it is not there. Check the image's command under"
        " [images]. Its last lines: bwrap: execvp serve-it: No such file or directory",
    ),
    "no such program, under the supervisor": (
        foreign(exit=127, program="/no such/prog", log="/no such/prog: No such file or directory"),
        "The container could not be started: the program /no such/prog is not there. Check the image's command under"
        " [images]. Its last lines: /no such/prog: No such file or directory",
    ),
    "no such program in a folder that is the container's own": (
        foreign(exit=1, interpreter="/bin/sh", log="bwrap: execvp /run/x: No such file or directory"),
        "The container could not be started: the program /run/x is not there. Check the image's command under [images]."
        f" {OWN}. Its last lines: bwrap: execvp /run/x: No such file or directory",
    ),
    "no such interpreter": (
        foreign(exit=1, interpreter="/tmp/venv/bin/python", log="bwrap: execvp /srv/a.py: No such file or directory"),
        "The container could not be started: the interpreter /tmp/venv/bin/python, which the first line of /srv/a.py"
        " names, is not there. Check the image's command under [images]."
        f" {OWN}, or name the interpreter in the command,"
        " before the program. Its last lines: bwrap: execvp /srv/a.py: No such file or directory",
    ),
    "a program that must not be executed": (
        foreign(exit=1, interpreter="/bin/sh", log="bwrap: execvp /srv/a: Permission denied"),
        "The container could not be started: the program /srv/a must not be executed. Check the image's command under"
        " [images]. Its last lines: bwrap: execvp /srv/a: Permission denied",
    ),
    "a file that the program itself did not find": (
        foreign(exit=3, program="/srv/a", log="/srv/b: No such file or directory"),
        "The container exited with code 3 before it answered a ping. Its last lines: /srv/b: No such file or directory",
    ),
    "a port that is taken": (
        foreign(exit=1, log="OSError: [Errno 98] Address already in use"),
        "The container exited with code 1 before it answered a ping. A port that it wanted is taken. Here it shares the"
        " machine's ports with others: let it bind SAGEMAKER_BIND_TO_PORT, and for its own use ports in"
        " SAGEMAKER_SAFE_PORT_RANGE alone. Its last lines: OSError: [Errno 98] Address already in use",
    ),
    "import error of a script on our own server": (
        ours(
            Code.MODULE_MISSING,
            "ModuleNotFoundError: No module named 'pandas'",
            failures.install_module("pandas"),
            before=THEIRS,
        ),
        "The model does not load: ModuleNotFoundError: No module named 'pandas'. Install the package that has it (such"
        " as pip install pandas) where hostler is installed: here, an archive's requirements.txt is not. Its last"
        f" lines: {THEIRS}",
    ),
    "an extra that is missing": (
        ours(Code.EXTRA_MISSING, "this model needs xgboost", failures.install_extra("xgboost")),
        "The model does not load: this model needs xgboost. Install that (pip install 'hostler[xgboost]').",
    ),
    "an extra that is missing at the start": (
        Facts(
            "primary",
            ours=True,
            exit=1,
            failure=Failure(
                Code.EXTRA_MISSING,
                "this model needs xgboost",
                failures.install_extra("xgboost"),
                "this model needs xgboost: pip install 'hostler[xgboost]'",
                loading=False,
            ),
            log="this model needs xgboost: pip install 'hostler[xgboost]'",
        ),
        "The container exited with code 1 before it answered a ping: this model needs xgboost. Install that (pip"
        " install"
        " 'hostler[xgboost]').",
    ),
    "no model_fn": (
        ours(Code.NO_MODEL_FN, "inference.py has no model_fn"),
        "The model does not load: inference.py has no model_fn. Define model_fn(model_dir) in code/inference.py of the"
        " archive; it returns the loaded model.",
    ),
    "nothing that predicts": (
        ours(Code.NO_PREDICT_FN, "inference.py has neither predict_fn nor transform_fn"),
        "The model does not load: inference.py has neither predict_fn nor transform_fn. Define predict_fn(data, model)"
        " in the script, or transform_fn(model, data, content_type, accept): only a model with a method predict needs"
        " neither.",
    ),
    "functions that clash": (
        ours(Code.FUNCTIONS_CLASH, "a.py has transform_fn beside predict_fn: it is one or the others", before="hello"),
        "The model does not load: a.py has transform_fn beside predict_fn: it is one or the others. Its last lines:"
        " hello",
    ),
    "a state_dict": (
        ours(
            Code.CODE_NEEDED,
            "model.pth is no TorchScript, as torch.jit.save writes it",
            "Of a state_dict or a pickled module only its own code can make a model: add code/inference.py with a"
            " model_fn that does, or save the model with torch.jit.script or torch.jit.trace and torch.jit.save.",
        ),
        "The model does not load: model.pth is no TorchScript, as torch.jit.save writes it. Of a state_dict or a"
        " pickled module only its own code can make a model: add code/inference.py with a model_fn that does, or"
        " save the model with torch.jit.script or torch.jit.trace and torch.jit.save.",
    ),
    "a model of Hugging Face": (
        ours(
            Code.CODE_NEEDED,
            "the artifact is a model of Hugging Face's libraries (a), which is loaded by code",
            "Add code/inference.py with model_fn and predict_fn, or export it to ONNX or TorchScript.",
        ),
        "The model does not load: the artifact is a model of Hugging Face's libraries (a), which is loaded by code. Add"
        " code/inference.py with model_fn and predict_fn, or export it to ONNX or TorchScript.",
    ),
    "an archive for another model server": (
        dataclasses.replace(
            ours(Code.OTHER_SERVER, "serving.properties configures DJL Serving (LMI)", "Do that."), image="me/lmi:1"
        ),
        "The model does not load: serving.properties configures DJL Serving (LMI). Do that. Map it to a command in"
        ' hostler.toml: under [images], "me/lmi" = "/path/to/program".',
    ),
    "one folder too deep": (
        ours(
            Code.FOLDER_TOO_DEEP,
            "all files of the archive lie in its folder m/, none at its top",
            f"Pack what is in that folder, not the folder (tar -czf model.tar.gz -C m .). {LINT}",
        ),
        "The model does not load: all files of the archive lie in its folder m/, none at its top. Pack what is in that"
        f" folder, not the folder (tar -czf model.tar.gz -C m .). {LINT}",
    ),
    "wrong files": (
        ours(Code.NO_MODEL, "the artifact holds no xgboost-model"),
        f"The model does not load: the artifact holds no xgboost-model. {LINT}",
    ),
    "a script that is not where it was named": (
        ours(Code.SCRIPT_MISSING, "SAGEMAKER_PROGRAM names serve.py, which is not there"),
        "The model does not load: SAGEMAKER_PROGRAM names serve.py, which is not there. Put it into the archive's"
        f" folder code/, or set SAGEMAKER_PROGRAM to the script that is there. {LINT}",
    ),
    "a file that does not load": (
        ours(Code.MODEL_FILE, "model.pkl does not load: pickle data was truncated"),
        "The model does not load: model.pkl does not load: pickle data was truncated.",
    ),
    "out of memory in a script's own process": (
        ours(Code.PROCESS_KILLED, "its process was killed by signal 9 while the model was loaded"),
        "The model does not load: its process was killed by signal 9 while the model was loaded - as the system does"
        f" when memory runs out. {MEMORY}",
    ),
    "out of memory": (
        ours(Code.OUT_OF_MEMORY, "MemoryError", before=f"{THEIRS}\nMemoryError"),
        f"The model does not load: MemoryError - memory ran out. {MEMORY} Its last lines: {THEIRS}\nMemoryError",
    ),
    "out of memory, by the words of a library": (
        ours(Code.SCRIPT_RAISED, "[Errno 12] Cannot allocate memory"),
        f"The model does not load: [Errno 12] Cannot allocate memory - memory ran out. {MEMORY}",
    ),
    "a missing module, by the words of a script": (
        ours(Code.SCRIPT_RAISED, "we need it: No module named 'pandas.core'"),
        "The model does not load: we need it: No module named 'pandas.core'. Install the package that has it (such as"
        " pip install pandas) where hostler is installed: here, an archive's requirements.txt is not.",
    ),
    "a code that this version does not know": (
        Facts("primary", ours=True, exit=1, failure=Failure("new", "this is new", "Do that."), log="hello"),
        "The model does not load: this is new. Do that. Its last lines: hello",
    ),
    "our own server as the command of an image": (
        ours(Code.NO_MODEL_FN, "inference.py has no model_fn", ours=False, program="/usr/bin/python"),
        "The model does not load: inference.py has no model_fn. Define model_fn(model_dir) in code/inference.py of the"
        " archive; it returns the loaded model.",
    ),
    "our own server, without a failure in data": (
        Facts("primary", ours=True, exit=1, log="the model does not load: inference.py has no model_fn"),
        "The container exited with code 1 before it answered a ping. Its last lines: the model does not load:"
        " inference.py has no model_fn",
    ),
    "no model_fn, by AWS's toolkit": (
        foreign(exit=1, log="NotImplementedError: Please provide a model_fn implementation."),
        "The container exited with code 1 before it answered a ping. The script has no model_fn. Define"
        " model_fn(model_dir) in code/inference.py of the archive; it returns the loaded model. Its last lines:"
        " NotImplementedError: Please provide a model_fn implementation.",
    ),
    "an image without serve": (
        image(exit=127, log="[FATAL tini (7)] exec serve failed: No such file or directory"),
        "The container could not be started: its image has no program serve, or not the interpreter that its first line"
        " names. SageMaker, and so hostler, starts an image with the one argument serve: it needs a program of that"
        " name on its PATH, or an ENTRYPOINT that takes the argument. A script with Windows' line ends (CRLF) names an"
        " interpreter that is nowhere. Its last lines: [FATAL tini (7)] exec serve failed: No such file or directory",
    ),
    "an entry point that is not there, or not its interpreter": (
        image(exit=127, log="[FATAL tini (8)] exec /opt/run failed: No such file or directory"),
        "The container could not be started: its image's entry point /opt/run is not there, or not the interpreter"
        " that its first line names. Look for both in the image. A script with Windows' line ends (CRLF) names an"
        " interpreter that is nowhere. Its last lines: [FATAL tini (8)] exec /opt/run failed: No such file or"
        " directory",
    ),
    "an entry point whose interpreter is not there, in a pod": (
        image(exit=1, log="exec /opt/run: no such file or directory"),
        "The container could not be started: its image's entry point /opt/run is not there, or not the interpreter"
        " that its first line names. Look for both in the image. A script with Windows' line ends (CRLF) names an"
        " interpreter that is nowhere. Its last lines: exec /opt/run: no such file or directory",
    ),
    "an entry point that is for another processor, in a pod": (
        image(exit=1, log="exec /opt/run: exec format error"),
        "The container could not be started: its image's entry point /opt/run is no program for this machine. Build the"
        " image for this machine's processor; a script begins with a line such as #!/bin/sh. Its last lines: exec"
        " /opt/run: exec format error",
    ),
    "an entry point that must not be executed": (
        image(exit=126, log="[FATAL tini (8)] exec /opt/run failed: Permission denied"),
        "The container could not be started: its image's entry point /opt/run must not be executed. In the Dockerfile:"
        " RUN chmod +x /opt/run. Its last lines: [FATAL tini (8)] exec /opt/run failed: Permission denied",
    ),
    "an entry point that is no program of this machine": (
        image(exit=127, log="[FATAL tini (8)] exec /opt/run failed: Exec format error"),
        "The container could not be started: its image's entry point /opt/run is no program for this machine. Build the"
        " image for this machine's processor; a script begins with a line such as #!/bin/sh. Its last lines: [FATAL"
        " tini (8)] exec /opt/run failed: Exec format error",
    ),
    "an entry point that does not take the argument": (
        image(exit=2, log="gunicorn: error: unrecognized arguments: serve"),
        "The container exited with code 2 before it answered a ping. Its entry point does not take the argument serve."
        " SageMaker, and so hostler, starts an image with the one argument serve: it needs a program of that name on"
        " its PATH, or an ENTRYPOINT that takes the argument. Its last lines: gunicorn: error: unrecognized arguments:"
        " serve",
    ),
    "an image that wants the port of another container": (
        image(exit=3, port=8081, log="ERROR: [Errno 98] bind on ('0.0.0.0', 8080): address already in use"),
        "The container exited with code 3 before it answered a ping. A port that it wanted is taken. Here it shares its"
        " instance's ports with others: let it bind SAGEMAKER_BIND_TO_PORT, and for its own use ports in"
        " SAGEMAKER_SAFE_PORT_RANGE alone. Its last lines: ERROR: [Errno 98] bind on ('0.0.0.0', 8080): address already"
        " in use",
    ),
    "an image for another machine": (
        image(exit=2, log="/serve: 1: Syntax error", platform="linux/arm64", machine="linux/amd64"),
        "The container exited with code 2 before it answered a ping. Its image is for linux/arm64, and Docker's machine"
        " is linux/amd64. Build the image for this machine: docker build --platform linux/amd64. Its last lines:"
        " /serve: 1: Syntax error",
    ),
    "an image whose memory was used up, within a limit": (
        image(exit=-9, oom=True, limit=2 * 2**30),
        "The container was ended by signal 9 (SIGKILL) before it answered a ping. The system killed it because it had"
        f" used up the 2.0GiB of its instance type (limits = true). {MEMORY} {SILENT}",
    ),
    "an image that used up the machine's memory": (
        image(exit=-9, oom=True, served=True),
        "The container was ended by signal 9 (SIGKILL). The system killed it because it had used up the machine's"
        f" memory. {MEMORY} {SILENT}",
    ),
    "an image that listens for itself alone": (
        image(ping=Ping("/ping"), listening=(8080,), loopback=True),
        "In 5 seconds, GET /ping was not answered: the container listens on port 8080, but on its loopback address"
        " alone, where no call from outside arrives. Let it listen on 0.0.0.0:8080 in place of 127.0.0.1 or localhost."
        f" {SILENT}",
    ),
    "an image that listens on another port": (
        image(ping=Ping("/ping"), listening=(5000,)),
        "In 5 seconds, GET /ping was not answered: the container listens on port 5000, not on 8080. A container of"
        f" SageMaker's listens on 8080. {SILENT}",
    ),
    "an image beside others that listens on another port": (
        image(ping=Ping("/ping"), listening=(5000,), port=8081),
        "In 5 seconds, GET /ping was not answered: the container listens on port 5000, not on 8081, of which"
        " SAGEMAKER_BIND_TO_PORT tells it. Beside others, a container listens on the port that SAGEMAKER_BIND_TO_PORT"
        f" names, and on 8080 only where that is not set. {SILENT}",
    ),
    "an image that opens no port": (
        image(ping=Ping("/ping")),
        "In 5 seconds, GET /ping was not answered: nothing in the container listens on a port. It must serve HTTP on"
        " port 8080, or the port that SAGEMAKER_BIND_TO_PORT names. If it is only slow to start,"
        f" {SLOW} {SILENT}",
    ),
    "an image that lacks a module": (
        image(exit=1, log=TRACEBACK),
        "The container exited with code 1 before it answered a ping. Python found no module named cv2.dnn. Install the"
        " package that has it in the image (such as RUN pip install cv2 in its Dockerfile). Its last lines: "
        + TRACEBACK,
    ),
    "an image whose program a shell does not find": (
        image(exit=127, log="sh: 1: gunicorn: not found"),
        "The container exited with code 127 before it answered a ping. A shell says so of a program that it cannot find"
        " or execute: check the image's entry point. Its last lines: sh: 1: gunicorn: not found",
    ),
    "an image that refuses the ping": (
        image(ping=Ping("/ping", 404)),
        "In 5 seconds, GET /ping was answered with 404 instead of 200. Add that route: a container must answer GET"
        f" /ping with 200 as soon as it can serve. {SILENT}",
    ),
    "what others know": (
        foreign(cause="It neither ended a load nor broke it off."),
        f"It neither ended a load nor broke it off. {SILENT}",
    ),
}


@pytest.mark.parametrize(("facts", "text"), MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_has_its_text_behind_awss_sentence(facts: Facts, text: str) -> None:
    assert failure_reason.unhealthy("AllTraffic", [facts]) == AWS + text


def test_a_container_that_served_is_not_said_to_have_come_late() -> None:
    assert "exited with code 3. " in failure_reason.unhealthy("v", [foreign(exit=3, served=True)])
    assert "startup_timeout" not in failure_reason.unhealthy("v", [foreign(ping=Ping("/ping", 503), served=True)])


def test_containers_that_failed_alike_share_a_cause_and_others_are_named() -> None:
    text = failure_reason.unhealthy(
        "v",
        [
            Facts("one", port=1, ping=Ping("/ping", 404), when="In 5 seconds", log="hello"),
            Facts("two", port=2, ping=Ping("/ping", 404), when="In 5 seconds"),
            Facts("three", port=3, ping=Ping("/ping", 500), when="In 5 seconds"),
        ],
    )
    assert text.startswith("The one, two, three container for production variant v did not pass the ping health check.")
    assert " one, two: In 5 seconds, GET /ping was answered with 404" in text
    assert " three: In 5 seconds, GET /ping was answered with 500" in text
    assert text.endswith("The last lines of one: hello")


@pytest.mark.parametrize(
    ("url", "error", "embedded", "text"),
    [
        ("s3://b/k.tar.gz", ArtifactMissing("NoSuchKey: The specified key does not exist."), True,
         "NoSuchKey: The specified key does not exist. It is looked for in hostler's own S3: put it there (aws s3"
         " cp), or"
         " name another S3 with s3_endpoint in hostler.toml."),
        ("s3://b/k.tar.gz", ArtifactMissing("AccessDenied: Access Denied"), False,
         "AccessDenied: Access Denied. It is looked for in the S3 that s3_endpoint in hostler.toml names."),
        ("file:///k", ArtifactMissing("It is not a file."), True, "It is not a file."),
        ("s3://b/k.tar.gz", StorageUnavailable("S3 answered 503."), True, "S3 answered 503."),
        ("s3://b/k.tar.gz", ArtifactBad("It was changed again and again."), True, "It was changed again and again."),
    ],
)  # fmt: skip
def test_an_artifact_that_was_not_fetched_keeps_awss_sentence(
    url: str, error: ArtifactError, embedded: bool, text: str
) -> None:
    assert failure_reason.not_fetched(1, url, error, embedded=embedded) == (
        f'Failed to download model data for container "container_2" from URL: "{url}". Please ensure that there is an'
        " object located at the URL and that the role passed to CreateModel has permissions to download the object."
        f" {text}"
    )


def test_an_archive_that_was_not_extracted_has_awss_sentence_of_that() -> None:
    error = ArchiveBad("The archive's member 'x' is a link.", "Pack it again: tar.")
    assert failure_reason.not_fetched(0, "s3://b/k.tar.gz", error, embedded=True) == (
        'Failed to extract model data archive for container "container_1" from URL "s3://b/k.tar.gz". Please ensure'
        f" that the object located at the URL is a valid tar.gz archive. The archive's member 'x' is a link. Pack it"
        f" again: tar. {LINT}"
    )


def test_an_address_that_is_very_long_costs_no_word_of_the_reason() -> None:
    error = ArtifactMissing("NoSuchKey.")
    text = failure_reason.not_fetched(0, "s3://b/" + "k" * 1017, error, embedded=True)
    assert len(text) == failure_reason.LIMIT
    assert text.endswith("s3_endpoint in hostler.toml.")


_facts = st.builds(
    Facts,
    label=st.text("abc-", min_size=1, max_size=63),
    ours=st.booleans(),
    served=st.booleans(),
    exit=st.none() | st.integers(-64, 255),
    ping=st.builds(Ping, st.sampled_from(["/ping", "/models"]), st.sampled_from([0, 204, 404, 503]), st.booleans()),
    when=st.just("In 3600 seconds"),
    port=st.sampled_from([0, 20000]),
    listening=st.lists(st.integers(1, 65535), max_size=20).map(tuple),
    failure=st.none()
    | st.builds(
        Failure,
        code=st.sampled_from([*Code, "new"]),
        message=st.text("m .", min_size=1, max_size=600),
        advice=st.sampled_from(["", *ADVICE.values(), "a" * 600]),
        line=st.sampled_from(["", "a line", "MemoryError"]),
        loading=st.booleans(),
    ),
    log=st.lists(
        st.sampled_from(
            ["No module named '" + "y" * 500, "ImportError: " + "z" * 900, "",
             "MemoryError", "a line",
             f"bwrap: execvp /tmp/{'w' * 400}: No such file or directory"]
        ),
        max_size=60,
    ).map("\n".join),
    interpreter=st.sampled_from(["", "/tmp/" + "i" * 250]),
)  # fmt: skip


@given(st.lists(_facts, min_size=1, max_size=15), st.text("v", min_size=1, max_size=63))
def test_the_first_cause_and_its_help_are_never_cut(failed: list[Facts], variant: str) -> None:
    text = failure_reason.unhealthy(variant, failed)
    first = failure_reason.diagnosis(failed[0])
    assert len(text) <= failure_reason.LIMIT
    assert first.cause in text
    assert first.help in text


REWORDED = [
    (code, message)
    for code in Code
    for message in ("it is so", "the artifact holds no x", "pip install 'hostler[torch]'", "SAGEMAKER_PROGRAM names it")
]


@pytest.mark.parametrize(
    "log",
    [
        "server.py: error: unrecognized arguments: serve",
        "Error: Got unexpected extra argument (serve)",
        "Error: No such command 'serve'.",
        'Error: unknown command "serve" for "app"',
        "python3: can't open file '/app/serve': [Errno 2] No such file or directory",
        "sh: 0: cannot open serve: No such file",
        "Error: Cannot find module '/app/serve'",
    ],
)
def test_whoever_refuses_the_argument_of_an_image_is_understood(log: str) -> None:
    assert " Its entry point does not take the argument serve. " in failure_reason.unhealthy(
        "v", [image(exit=2, log=log)]
    )
    assert "entry point" not in failure_reason.unhealthy("v", [image(exit=2, log=log, served=True)])


@pytest.mark.parametrize("log", ["unknown device, which cannot serve it", "cannot find serve.yaml", "no such server"])
def test_other_words_with_serve_in_them_are_not_taken_for_that(log: str) -> None:
    assert "entry point" not in failure_reason.unhealthy("v", [image(exit=2, log=log)])


@pytest.mark.parametrize(("code", "message"), REWORDED)
def test_no_wording_of_our_own_changes_the_help(code: Code, message: str) -> None:
    wanted = failure_reason.diagnosis(ours(code, "a message")).help
    assert failure_reason.diagnosis(ours(code, message)).help == wanted == ADVICE.get(code, "")


@pytest.mark.parametrize(
    ("log", "line", "quoted"),
    [
        ("the line", "the line", None),
        ("one\nthe line", "the line", "one"),
        ("the line\nafter it", "the line", "after it"),
        ("one\nthe line\ntwo", "the line", "one\ntwo"),
        ("the line\none\nthe line", "the line", "the line\none"),
        ("not quite the line", "the line", "not quite the line"),
        ("Error: why", "why", "Error: why"),
        ("one\ntwo\nthree", "one\ntwo", "three"),
        ("one", "", "one"),
    ],
)
def test_the_line_that_repeats_the_failure_is_not_quoted(log: str, line: str, quoted: str | None) -> None:
    facts = Facts("primary", ours=True, exit=1, failure=Failure(Code.OTHER, "why", line=line), log=log)
    quote = f" Its last lines: {quoted}" if quoted else ""
    assert failure_reason.unhealthy("AllTraffic", [facts]) == f"{AWS}The model does not load: why.{quote}"


def test_a_message_has_the_room_that_its_last_lines_had() -> None:
    assert "m" * 440 in failure_reason.unhealthy("v", [ours(Code.OTHER, "m" * 440)])


@pytest.mark.parametrize(
    ("text", "room", "end"),
    [
        ("one\ntwo\n", 100, "one\ntwo"),
        ("one\ntwo", 4, "two"),
        ("one\ntwo", 3, "two"),
        ("one\ntwo", 2, "wo"),
        ("one\ntwo", 0, ""),
        ("one\ntwo", -5, ""),
        ("one", 2, "ne"),
    ],
)
def test_the_last_lines_are_whole_as_far_as_can_be(text: str, room: int, end: str) -> None:
    assert failure_reason.last_lines(text, room) == end
