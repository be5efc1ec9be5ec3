"""A real web server to watch: Debian's nginx with a configuration of the test's own, over HTTP and HTTPS."""

import datetime
import ipaddress
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from processes import Processes
from verify import find_nginx

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
    now = datetime.datetime.now(datetime.UTC)
    lifetime = {"not_valid_before": now - datetime.timedelta(hours=1), "not_valid_after": now + datetime.timedelta(days=7)}

    def certificate(name: str, key, issuer: str, issuer_key, *extensions) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            **lifetime,
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256())

    root_key = ec.generate_private_key(ec.SECP256R1())
    root = certificate(
        "end-to-end test", root_key, "end-to-end test", root_key, (x509.BasicConstraints(ca=True, path_length=0), True)
    )
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = certificate(
        HOST,
        server_key,
        "end-to-end test",
        root_key,
        (x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    )
    pem = serialization.Encoding.PEM
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    (folder / "server.pem").write_bytes(server.public_bytes(pem))
    (folder / "server.key").write_bytes(
        server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "ca.pem"


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
        command = [find_nginx(), "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", self.folder / "error.log"]
        self.running = self.processes.start("nginx", command, {}, self.folder / "output.log")
        self.processes.wait_for("nginx", self.http_url)

    def stop(self) -> None:
        self.processes.end(self.running)
        self.running = None
