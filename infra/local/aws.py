"""The local AWS: ministack in one process, and the stack that SAM deploys into it."""

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import yaml

import settings
from processes import Failed, Processes

# Pins the id, and so the URL, of the local API: ministack reads it from a tag. It has to be known before the deploy,
# because the functions are told their own URL.
API_ID = "f0a9e000"
# The stack of each stage in samconfig.toml.
STACKS = {"local": "forge-health-local", "prod": "forge-health-prod"}
STACK = STACKS["local"]


class LocalAws:
    """One ministack on 127.0.0.1, with its state and log in `folder`."""

    def __init__(self, processes: Processes, folder: Path, port: int, keep_state: bool, environment: dict | None = None):
        self.processes = processes
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.api_url = f"{self.url}/_aws/execute-api/{API_ID}/$default"
        self.keep_state = keep_state
        self.extra = environment or {}

    def start(self) -> subprocess.Popen:
        temporary = self.folder / "tmp"
        # Copies of the functions of the last run.
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        environment = settings.function_environment() | {
            "AWS_ENDPOINT_URL": self.url,
            # Its default is every interface.
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "IOT_MTLS_ENABLED": "0",
            "PERSIST_STATE": "1" if self.keep_state else "0",
            "SFTP_ENABLED": "0",
            "STATE_DIR": str(self.folder / "state"),
            "TMPDIR": str(temporary),
        }
        server = self.processes.start(
            "the local AWS",
            [settings.ROOT / ".venv-local" / "bin" / "ministack"],
            environment | self.extra,
            self.folder / "aws.log",
        )
        self.processes.wait_for("the local AWS", f"{self.url}/_ministack/health")
        return server

    def client(self, service: str):
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=settings.REGION,
            aws_access_key_id=settings.CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=settings.CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def environment(self) -> dict[str, str]:
        """What a program needs to talk to this AWS and to build like everybody else here."""
        return settings.build_environment() | {"AWS_ENDPOINT_URL": self.url}

    def deploy(self, parameters: dict[str, str], stage: str = "local") -> dict[str, str]:
        """`sam build` and `sam deploy` of a stage of samconfig.toml. Returns the stack's outputs."""
        built = self.folder / "build"
        # One build at a time: cargo-lambda takes the binaries out of the target directory that all share.
        with (settings.STATE / "build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Ahead of `sam build`, which shows nothing of the minutes that a first compilation takes, and finds it done.
            build = ["cargo", "build", "--workspace", "--bins"]
            self.processes.run("cargo build", build, self.environment(), settings.ROOT)
            self.sam("build", "--build-dir", built)
        storage = self.client("s3")
        if "artifacts" not in [bucket["Name"] for bucket in storage.list_buckets()["Buckets"]]:
            storage.create_bucket(Bucket="artifacts")
        # A file, since a JWKS does not survive the quoting rules of the command line.
        overrides = self.folder / "parameters.yaml"
        overrides.write_text(yaml.safe_dump(parameters))
        given = ["--parameter-overrides", f"file://{overrides}", "--no-confirm-changeset"]
        if stage == "local":
            given += ["--tags", f"ms-custom-id={API_ID}"]
        self.sam("deploy", "--template-file", built / "template.yaml", *given, stage=stage)
        return self.outputs(STACKS[stage])

    def delete(self, stage: str = "local") -> None:
        """`sam delete` of the stack, which keeps what the template says to keep."""
        self.sam("delete", "--no-prompts", "--region", settings.REGION, stage=stage)

    def sam(self, command: str, *arguments: object, stage: str = "local") -> None:
        """Runs a SAM command on a stage of samconfig.toml; of its output only the end of a failure is shown."""
        log = self.folder / f"sam-{command}.log"
        log.unlink(missing_ok=True)
        # Named, since SAM would look for it beside the built template.
        configuration = ["--config-file", settings.ROOT / "samconfig.toml", "--config-env", stage]
        program = settings.ROOT / ".venv-sam" / "bin" / "sam"
        try:
            line = [program, command, *configuration, *arguments]
            self.processes.run(f"sam {command}", line, self.environment(), settings.ROOT, log)
        except Failed:
            print(*log.read_text(errors="replace").splitlines()[-40:], sep="\n", file=sys.stderr)
            raise

    def outputs(self, name: str = STACK) -> dict[str, str]:
        stack = self.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def create_state(self) -> dict[str, str]:
        """Only what holds state: table, keys and bus of the template, without functions and schedule.

        Returns TABLE_NAME, BUS_NAME, DEPLOYMENT_KEY_ID and WRAPPING_KEY_ID.
        """
        names = {
            "TABLE_NAME": "Table",
            "BUS_NAME": "Bus",
            "DEPLOYMENT_KEY_ID": "DeploymentKey",
            "WRAPPING_KEY_ID": "WrappingKey",
        }
        template = load_template()
        resources = {resource: template["Resources"][resource] for resource in names.values()}
        outputs = {resource: {"Value": {"Ref": resource}} for resource in names.values()}
        formation = self.client("cloudformation")
        try:
            formation.describe_stacks(StackName=STACK)
        except formation.exceptions.ClientError:
            formation.create_stack(
                StackName=STACK,
                TemplateBody=json.dumps({"Resources": resources, "Outputs": outputs}),
            )
            formation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
        found = self.outputs()
        if missing := [resource for resource in names.values() if resource not in found]:
            raise Failed(f"the local stack lacks {', '.join(missing)}; `make clean-local` starts afresh")
        return {variable: found[resource] for variable, resource in names.items()}

    def create_table(self, name: str) -> None:
        """The template's table under another name."""
        properties = load_template()["Resources"]["Table"]["Properties"]
        wanted = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
        self.client("dynamodb").create_table(TableName=name, **{key: properties[key] for key in wanted})


def load_template(text: str | None = None) -> dict:
    """A template, infra/template.yaml by default, with CloudFormation's short forms (`!Ref x`) as the long ones
    (`{"Ref": "x"}`)."""

    class Loader(yaml.SafeLoader):
        pass

    def long_form(loader: yaml.Loader, suffix: str, node: yaml.Node):
        name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
        if isinstance(node, yaml.ScalarNode):
            value = loader.construct_scalar(node)
            return {name: value.split(".", 1) if suffix == "GetAtt" else value}
        if isinstance(node, yaml.SequenceNode):
            return {name: loader.construct_sequence(node, deep=True)}
        return {name: loader.construct_mapping(node, deep=True)}

    Loader.add_multi_constructor("!", long_form)
    return yaml.load(text or settings.TEMPLATE.read_text(), Loader)
