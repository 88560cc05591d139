"""The lower bound for a proxy: nginx as a reverse proxy before the echo server."""

from __future__ import annotations

import os
from typing import ClassVar

from contenders.aws import invocation
from contenders.contender import Call, Contender, Service, free_port

CONFIG = """
{user} daemon off; worker_processes 1; pid {run}/nginx.pid; error_log {run}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 6m; client_body_buffer_size 128k;
  client_body_temp_path {run}/body; proxy_temp_path {run}/proxy;
  fastcgi_temp_path {run}/f; uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;
  upstream container {{ server 127.0.0.1:{container}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://container/invocations; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_buffers 32 32k; proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


class Nginx(Contender):
    name = "nginx"
    settings = (
        "reverse proxy, 1 worker process, keep-alive to the same echo server as hostler's, no request buffering, no"
        " temporary files, no access log; the CPU time is of both"
    )
    programs = ("nginx",)
    unsupported: ClassVar = {"targets": "cannot serve models", "pipeline": "cannot chain containers"}

    def start(self, service: Service) -> None:
        container, self.port, run = self.run_echo(), free_port(), self.workspace.folder
        config, user = run / "nginx.conf", "user root;" if os.getuid() == 0 else ""
        config.write_text(CONFIG.format(user=user, run=run, container=container, port=self.port))
        self.run("nginx", "-e", run / "nginx.log", "-c", config)
        self.wait(lambda: self.answers("/ping"))

    def call(self, target: int, row: str) -> Call:
        raise NotImplementedError

    def echo(self, body: bytes) -> Call:
        return invocation("echo", body)
