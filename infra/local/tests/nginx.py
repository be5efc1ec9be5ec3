"""A real web server to watch: Debian's nginx with a configuration of the test's own, over HTTP and HTTPS."""

import subprocess
from pathlib import Path

import debian
from certificates import Authority
from processes import Processes

# Loopback, and not the address of the API: a backend refuses to watch itself.
HOST = "127.0.0.2"
CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen {host}:{http_port};
    listen {host}:{https_port} ssl;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.key;
    location /health {{ default_type text/plain; return 200 "healthy\\n"; }}
  }}
}}
"""


def certificate_authority(folder: Path) -> Path:
    """Makes a CA and a certificate for HOST in `folder`. Returns the CA's PEM file, for SSL_CERT_FILE."""
    authority = Authority(folder)
    authority.issue("server", [HOST])
    return authority.file


class Nginx:
    """One nginx that can be stopped and started again on the same ports."""

    def __init__(self, processes: Processes, folder: Path, http_port: int, https_port: int):
        self.processes = processes
        self.folder = folder
        self.http_url = f"http://{HOST}:{http_port}/health"
        self.https_url = f"https://{HOST}:{https_port}/health"
        text = CONFIGURATION.format(folder=folder, host=HOST, http_port=http_port, https_port=https_port)
        (folder / "nginx.conf").write_text(text)
        self.running: subprocess.Popen | None = None

    def start(self) -> None:
        command = [debian.find("nginx"), "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", self.folder / "error.log"]
        self.running = self.processes.start("nginx", command, {}, self.folder / "output.log")
        self.processes.wait_for("nginx", self.http_url)

    def stop(self) -> None:
        self.processes.end(self.running)
        self.running = None
