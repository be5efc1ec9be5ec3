"""Tenants with their services, written into the table as accepted registrations leave them.

Formats: shared/aws/src/store/; ids: shared/domain/src/id.rs. A record that is wrong is passed over by check-services, and the
measurement fails.
"""

import base64
import hashlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from boto3.dynamodb.types import TypeSerializer

from bench.behaviour import Kind, status

BATCH = 25
THREADS = 8


@dataclass
class Service:
    """One endpoint of a tenant."""

    id: str
    url: str
    kind: Kind
    number: int


@dataclass
class Tenant:
    """One installation of the app."""

    cloud_id: str
    trigger_id: str
    trigger_url: str
    id: str
    services: list[Service] = field(default_factory=list)
    # base64url of the 32 bytes.
    public_key: str = ""
    wrapped_key: str = ""

    @classmethod
    def new(cls, origin: str) -> "Tenant":
        """`origin` is where the triggers are served."""
        cloud_id, trigger_id = str(uuid.uuid4()), uuid.uuid4().hex
        trigger_url = f"{origin}/x1/{trigger_id}"
        return cls(cloud_id, trigger_id, trigger_url, derived(20, "forge-health/tenant/v1", cloud_id, trigger_url))

    def add(self, url: str, kind: Kind, number: int) -> None:
        self.services.append(Service(derived(10, "forge-health/service/v1", self.id, url), url, kind, number))


def derived(length: int, *parts: str) -> str:
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return base64.b32encode(digest[:length]).decode().rstrip("=").lower()


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def make_keys(kms, wrapping_key: str, tenants: list[Tenant]) -> None:
    """A wrapped key pair for each tenant, as add-service has it made."""

    def make(tenant: Tenant) -> None:
        answer = kms.generate_data_key_pair_without_plaintext(
            KeyId=wrapping_key,
            KeyPairSpec="ECC_NIST_EDWARDS25519",
            EncryptionContext={"purpose": "tenant-key", "cloudId": tenant.cloud_id, "tenantId": tenant.id},
        )
        # The last 32 bytes of an Ed25519 SubjectPublicKeyInfo are the key.
        tenant.public_key = unpadded(answer["PublicKey"][-32:])
        tenant.wrapped_key = unpadded(answer["PrivateKeyCiphertextBlob"])

    with ThreadPoolExecutor(THREADS) as executor:
        list(executor.map(make, tenants))


def write(tables, table: str, tenants: list[Tenant]) -> None:
    """Writes the items of tenants that have keys."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    serialize = TypeSerializer().serialize
    items = [
        {name: serialize(value) for name, value in item.items()} for tenant in tenants for item in tenant_items(tenant, now)
    ]

    def put(batch: list[dict]) -> None:
        requests = {table: [{"PutRequest": {"Item": item}} for item in batch]}
        while requests:
            requests = tables.batch_write_item(RequestItems=requests).get("UnprocessedItems")

    with ThreadPoolExecutor(THREADS) as executor:
        list(executor.map(put, [items[at : at + BATCH] for at in range(0, len(items), BATCH)]))


def tenant_items(tenant: Tenant, now: str) -> list[dict]:
    pk = f"TENANT#{tenant.id}"
    record = {
        "pk": pk,
        "sk": "TENANT",
        "active": "ACTIVE",
        "tenantId": tenant.id,
        "cloudId": tenant.cloud_id,
        "triggerUrl": tenant.trigger_url,
        "publicKey": tenant.public_key,
        "wrappedKey": tenant.wrapped_key,
        "status": "active",
        "revision": len(tenant.services),
        "createdAt": now,
        "registeredAt": now,
    }
    return [record] + [service_item(pk, service, now) for service in tenant.services]


def service_item(pk: str, service: Service, now: str) -> dict:
    first: dict = {"checkedAt": now, "responseTimeMs": 20, "attempts": 1}
    first |= {"httpStatus": 200} if status(service.kind, service.number, -1) == "ALIVE" else {"failure": "timeout"}
    return {
        "pk": pk,
        "sk": f"SERVICE#{service.id}",
        "name": f"Service {service.kind} {service.number}",
        "check": json.dumps({"url": service.url, "method": "GET", "expectedStatus": "200-299", "timeoutMs": 5000}),
        "owner": "pseudonym-0123456789abcdef0123456789abcdef",
        "activity": "active",
        "first": json.dumps(first),
        "createdAt": now,
    }


def item_bytes(item: dict) -> int:
    """The size of an item as DynamoDB counts it: names and values in UTF-8, numbers two digits a byte."""
    return sum(len(name.encode()) + value_bytes(value) for name, value in item.items())


def value_bytes(value: dict) -> int:
    (kind, content), = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return (len(content.strip("-")) + 1) // 2 + 1
    if kind == "M":
        return 3 + sum(len(name.encode()) + value_bytes(inner) + 1 for name, inner in content.items())
    if kind == "L":
        return 3 + sum(value_bytes(inner) + 1 for inner in content)
    return 1


def table_units(tables, table: str) -> tuple[float, float, float]:
    """What one tick costs at DynamoDB: read units, write units, and bytes of STATE for each service.

    Per tenant one eventually consistent Query of its partition (half a unit per 4 KB begun) and one write of STATE (a unit
    per KB begun); and one Query of the index.
    """
    partitions: dict[str, int] = {}
    index = state = services = writes = 0
    pages = tables.get_paginator("scan").paginate(TableName=table)
    for item in (item for page in pages for item in page["Items"]):
        size = item_bytes(item)
        partitions[item["pk"]["S"]] = partitions.get(item["pk"]["S"], 0) + size
        if "active" in item:
            # Keys only.
            index += item_bytes({name: item[name] for name in ("pk", "sk", "active", "tenantId")})
        if item["sk"]["S"] == "STATE":
            state += size
            services += len(item["services"]["M"])
            writes += -(-size // 1024)
    reads = sum(-(-size // 4096) / 2 for size in partitions.values()) + -(-index // 4096) / 2
    return reads, writes, state / max(services, 1)
