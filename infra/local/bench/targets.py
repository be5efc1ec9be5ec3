"""The endpoints that are checked: a real nginx for the healthy ones, a small server for those that misbehave.

Each on many addresses of 127.0.0.0/8, since a backend opens few connections to one host at once.
"""

import resource
import sys
import urllib.request
from pathlib import Path

import debian
import settings
from bench.behaviour import Kind
from certificates import Authority
from processes import Processes, free_port

# Where everything of Kind.SHARED is.
SHARED_ADDRESS = "127.3.0.1"
# Addresses of one certificate: about as many names as a certificate of a small site has.
PER_CERTIFICATE = 16

CONFIGURATION = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 10000; }}
http {{
  log_format timed '$msec $request_uri';
  access_log {access_log};
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{servers}
}}
"""
SERVER = """  server {{
    {listen}
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {folder}/{name}.pem;
    ssl_certificate_key {folder}/{name}.key;
    location / {{ default_type text/plain; return 200 "healthy\\n"; }}
  }}"""


class Targets:
    """All targets of a measurement, and the URL of each."""

    def __init__(self, processes: Processes, folder: Path, healthy: int, hostile: int, access_log: bool = False):
        """`healthy` and `hostile` are numbers of addresses."""
        self.processes = processes
        self.folder = folder
        self.healthy = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(healthy)]
        self.hostile = [f"127.2.{number // 250}.{number % 250 + 1}" for number in range(hostile)]
        self.http_port, self.https_port, self.hostile_port, self.control_port = (free_port() for _ in range(4))
        self.requests = folder / "requests.log"
        self.authority = Authority(folder)
        servers = []
        for at in range(0, healthy, PER_CERTIFICATE):
            addresses = self.healthy[at : at + PER_CERTIFICATE]
            name = f"server-{at}"
            self.authority.issue(name, addresses)
            listen = " ".join(f"listen {host}:{self.http_port}; listen {host}:{self.https_port} ssl;" for host in addresses)
            servers.append(SERVER.format(folder=folder, name=name, listen=listen))
        log = f"{self.requests} timed" if access_log else "off"
        text = CONFIGURATION.format(folder=folder, servers="\n".join(servers), access_log=log)
        (folder / "nginx.conf").write_text(text)

    def start(self) -> None:
        configuration = self.folder / "nginx.conf"
        command = [debian.find("nginx"), "-p", self.folder, "-c", configuration, "-e", self.folder / "error.log"]
        self.processes.start("nginx", command, {}, self.folder / "nginx.log")
        self.processes.wait_for("nginx", self.url(Kind.HTTP, 0))
        if self.hostile:
            program = settings.ROOT / "infra" / "local" / "bench" / "hostile.py"
            command = [sys.executable, program, self.hostile_port, self.control_port, *self.hostile, SHARED_ADDRESS]
            self.processes.start("the hostile targets", command, {}, self.folder / "hostile.log")
            self.processes.wait_for("the hostile targets", f"http://127.0.0.1:{self.control_port}/tick/0")

    def at_tick(self, index: int) -> None:
        """From now on the flapping targets behave as at this tick."""
        if self.hostile:
            urllib.request.urlopen(f"http://127.0.0.1:{self.control_port}/tick/{index}", timeout=10).close()

    def url(self, kind: Kind, number: int) -> str:
        if kind is Kind.HTTP:
            return f"http://{self.healthy[number % len(self.healthy)]}:{self.http_port}/s/{number}"
        if kind is Kind.HTTPS:
            return f"https://{self.healthy[number % len(self.healthy)]}:{self.https_port}/s/{number}"
        host = SHARED_ADDRESS if kind is Kind.SHARED else self.hostile[number % len(self.hostile)]
        return f"http://{host}:{self.hostile_port}/{kind}/{number}"


def install(processes: Processes, *programs: str) -> None:
    """Debian's programs that a measurement needs."""
    environment = settings.build_environment()
    name = "apt-get"
    debian.install(list(programs), lambda command, more: processes.run(name, command, environment | more))


def raise_file_limit() -> None:
    """As many descriptors as this user may have: ten thousand checks at once need some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

