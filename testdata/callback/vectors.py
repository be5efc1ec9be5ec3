"""Makes vectors.json, the same bytes every time: `python vectors.py > vectors.json` (needs the package cryptography).

A third implementation beside the two that read the vectors: neither Rust nor TypeScript, and no JWT library.
"""

import base64
import hashlib
import hmac
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# The secret keys of RFC 8032, section 7.1, with the signatures that it prints for them.
RFC_8032 = {
    "TEST 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    "TEST 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "TEST 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    "TEST SHA(abc)": (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
}
DEPLOYMENT, TENANT, APP, STRANGER = RFC_8032

BACKEND = "https://backend.example"
APP_ID = "ari:cloud:ecosystem::app/5f1c9b4e-0b7d-4b7e-9d57-3e2a1c0d9f88"
CLOUD = "11111111-2222-4333-8444-555555555555"
OTHER_CLOUD = "66666666-7777-4888-9999-aaaaaaaaaaaa"
TRIGGER = "https://99999999-8888-4777-8666-555555555555.hello.atlassian-dev.net/x1/abcDEF_-123"
OTHER_TRIGGER = "https://bbbbbbbb-cccc-4ddd-8eee-ffffffffffff.webtrigger.atlassian.app/public/stranger"
URL = "https://example.com/health"
# 2026-11-22T10:05:10Z
NOW = 1_795_341_910

FIELD_PRIME = 2**255 - 19
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
# The y of the points whose order divides 8: the cofactor of edwards25519 (RFC 8032, section 5.1).
ORDER_8_Y = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER_Y = [0, 1, FIELD_PRIME - 1, ORDER_8_Y, FIELD_PRIME - ORDER_8_Y]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def private_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(RFC_8032[name][0]))


def public_x(name: str) -> str:
    return b64(private_key(name).public_key().public_bytes_raw())


def kid(x: str) -> str:
    return b64(hashlib.sha256(compact({"crv": "Ed25519", "kty": "OKP", "x": x})).digest())


def sha256_id(bits: int, *lines: str) -> str:
    digest = hashlib.sha256("\n".join(lines).encode()).digest()[: bits // 8]
    return base64.b32encode(digest).decode().lower()


def tenant_id(cloud_id: str, trigger_url: str) -> str:
    return sha256_id(160, "forge-health/tenant/v1", cloud_id, trigger_url)


def service_id(tenant: str, url: str) -> str:
    return sha256_id(80, "forge-health/service/v1", tenant, url)


OWN_TENANT = tenant_id(CLOUD, TRIGGER)


def sign(header: dict, claims: object, key: str, alter=lambda signature: signature) -> str:
    """A compact JWS; `alter` makes a bad signature of the good one. A header of None drops that member."""
    header = {name: value for name, value in header.items() if value is not None}
    signing_input = f"{b64(compact(header))}.{b64(compact(claims))}"
    return f"{signing_input}.{b64(alter(private_key(key).sign(signing_input.encode())))}"


def jwk(x: str) -> dict:
    return {"kty": "OKP", "crv": "Ed25519", "x": x}


def encode_point(y: int, sign_bit: int) -> bytes:
    return (y + (sign_bit << 255)).to_bytes(32, "little")


def plus_group_order(signature: bytes) -> bytes:
    """The same equation holds for S + L; RFC 8032, section 5.1.7, demands S < L."""
    s = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    return signature[:32] + s.to_bytes(32, "little")


def flip_first_bit(signature: bytes) -> bytes:
    return bytes([signature[0] ^ 1]) + signature[1:]


BAD_SIGNATURES = {
    "S not reduced by the group order": plus_group_order,
    "one bit changed": flip_first_bit,
    "all zero": lambda signature: bytes(64),
    "the point alone": lambda signature: signature[:32],
    "a byte more": lambda signature: signature + b"\0",
}


def ids() -> list[dict]:
    pairs = [
        (CLOUD, TRIGGER, URL),
        (CLOUD, OTHER_TRIGGER, URL),
        (OTHER_CLOUD, TRIGGER, "https://example.com/"),
        (OTHER_CLOUD, "http://127.0.0.1:8900/x1/0123456789abcdef", "http://127.0.0.2:8080/a?b=c%20d"),
    ]
    return [
        {
            "cloudId": cloud,
            "triggerUrl": trigger,
            "tenantId": tenant_id(cloud, trigger),
            "url": url,
            "serviceId": service_id(tenant_id(cloud, trigger), url),
        }
        for cloud, trigger, url in pairs
    ]


def keys() -> dict:
    good = []
    for name, (seed, message, signature) in RFC_8032.items():
        assert private_key(name).sign(bytes.fromhex(message)).hex() == signature, name
        x = public_x(name)
        rfc = {"name": f"RFC 8032, {name}", "seed": seed, "message": message, "signature": signature}
        good.append(rfc | {"jwk": jwk(x), "kid": kid(x)})

    x = public_x(TENANT)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    bad = [
        ("another key type", jwk(x) | {"kty": "EC"}),
        ("another curve", jwk(x) | {"crv": "X25519"}),
        ("no point", {"kty": "OKP", "crv": "Ed25519", "x": ""}),
        ("31 bytes", jwk(b64(bytes([7] * 31)))),
        ("33 bytes", jwk(b64(bytes([7] * 33)))),
        ("padding", jwk(f"{x}=")),
        ("plain base64", jwk(base64.b64encode(b"\xfb\xff" + bytes(30)).decode().rstrip("="))),
        ("unused bits that are not zero", jwk(x[:-1] + alphabet[alphabet.index(x[-1]) + 1])),
        ("a coordinate not reduced by the field prime", jwk(b64(encode_point(FIELD_PRIME + 3, 0)))),
    ]
    encodings = [y for low in SMALL_ORDER_Y for y in (low, low + FIELD_PRIME) if y < 2**255]
    bad += [
        (f"of small order, {encode_point(y, sign_bit).hex()}", jwk(b64(encode_point(y, sign_bit))))
        for y in encodings
        for sign_bit in (0, 1)
    ]
    return {"good": good, "bad": [{"name": name, "jwk": value} for name, value in bad]}


class Callbacks:
    """Callbacks to one installation, at NOW. `jws`: what the signature layer says; `receiver`: what the app says."""

    def __init__(self) -> None:
        self.cases: list[dict] = []

    def body(self, action: str, **changes: object) -> str:
        body = {"version": 1, "action": action, "cloudId": CLOUD, "tenantId": OWN_TENANT, "sentAt": "2026-11-22T10:05:10Z"}
        if action == "REGISTER":
            service = {"id": service_id(OWN_TENANT, URL), "name": "Shop – 店", "url": URL, "owner": "p-1", "status": "UNKNOWN"}
            body |= {"jwk": jwk(public_x(TENANT)), "handoff": "a.b.c", "service": service}
        else:
            body |= {"tick": "2026-11-22T10:05:00Z", "services": [], "transitions": [], "transitionsDropped": 0}
        return compact(body | changes).decode()

    def add(
        self,
        name: str,
        jws: str,
        receiver: str,
        action: str = "UPDATE",
        key: str | None = None,
        header: dict | None = None,
        claims: dict | None = None,
        body: str | None = None,
        sent: str | None = None,
        alter=lambda signature: signature,
    ) -> None:
        key = key or (DEPLOYMENT if action == "REGISTER" else TENANT)
        body = body if body is not None else self.body(action)
        full_header = {"alg": "EdDSA", "typ": "forge-callback+jwt", "kid": kid(public_x(key))} | (header or {})
        full_claims = {
            "iss": BACKEND,
            "aud": CLOUD,
            "sub": OWN_TENANT,
            "iat": NOW,
            "exp": NOW + 300,
            "jti": f"{OWN_TENANT}.2026-11-22T10:05:00Z" if action == "UPDATE" else "00112233445566778899aabbccddeeff",
            "scope": f"health:{action.lower()}",
            "body_sha256": b64(hashlib.sha256(body.encode()).digest()),
        } | (claims or {})
        full_claims = {name: value for name, value in full_claims.items() if value is not None}
        case = {"name": name, "jws": jws, "receiver": receiver, "scope": full_claims.get("scope", "")}
        token = sign(full_header, full_claims, key, alter)
        self.cases.append(case | {"token": token, "body": sent if sent is not None else body})

    def all(self) -> dict:
        add = self.add
        add("an update", "Valid", "accepted")
        add("a registration", "Valid", "accepted", "REGISTER")
        add("60 s ahead", "Valid", "accepted", claims={"iat": NOW + 60, "exp": NOW + 360})
        add("59 s past its end", "Valid", "accepted", claims={"iat": NOW - 359, "exp": NOW - 59})
        quiet = self.body("UPDATE", nextUpdateBy="2026-11-22T11:10:10Z")
        add("an update that says when the next one is due", "Valid", "accepted", body=quiet)
        add("an unknown header member", "Valid", "accepted", header={"note": "x"})

        add("the typ of a hand-off", "Header", "type", header={"typ": "forge-handoff+jwt"})
        add("the typ of a key introduction", "Header", "type", "REGISTER", header={"typ": "forge-key+jwt"})
        add("typ JWT", "Header", "type", header={"typ": "JWT"})
        add("the typ with its media type prefix", "Header", "type", header={"typ": "application/forge-callback+jwt"})
        add("no typ", "Shape", "type", header={"typ": None})
        for alg in ("none", "HS256", "ES256", "Ed25519", "eddsa"):
            add(f"alg {alg}", "Header", "algorithm", header={"alg": alg})
        public = private_key(TENANT).public_key().public_bytes_raw()
        forged = self.cases[0]["token"].rsplit(".", 1)[0].split(".")[1]
        header = b64(compact({"alg": "HS256", "typ": "forge-callback+jwt", "kid": kid(public_x(TENANT))}))
        mac = hmac.digest(public, f"{header}.{forged}".encode(), "sha256")
        hmac_case = {"name": "alg HS256 with the public key as the secret", "jws": "Header", "receiver": "algorithm"}
        hmac_case |= {"scope": "health:update", "token": f"{header}.{forged}.{b64(mac)}", "body": self.body("UPDATE")}
        self.cases.append(hmac_case)

        add("no kid", "Shape", "header", header={"kid": None})
        add("a kid that is no thumbprint", "Key", "header", header={"kid": "../../key"})
        add("a stranger's key", "Key", "unknown-key", key=STRANGER)
        tenant_kid = {"kid": kid(public_x(TENANT))}
        add("a stranger's signature under the trusted kid", "Signature", "signature", key=STRANGER, header=tenant_kid)
        own_jwk = {"jwk": jwk(public_x(STRANGER))}
        add("a stranger's key in a jwk header", "Key", "header", key=STRANGER, header=own_jwk)
        add("a stranger's key in a jwk header, the trusted kid", "Signature", "header", key=STRANGER, header=own_jwk | tenant_kid)
        # The signature layer never looks at these, so the trusted key's own signature stays valid there.
        add("a jku header", "Valid", "header", header={"jku": "https://attacker.example/jwks.json"})
        add("an x5u header", "Valid", "header", header={"x5u": "https://attacker.example/chain.pem"})
        add("an x5c header", "Valid", "header", header={"x5c": ["MIIB"]})
        add("a crit header", "Header", "header", header={"crit": ["b64"], "b64": False})
        add("a crit header without names", "Header", "header", header={"crit": []})

        add("the relayed REGISTER: made for a stranger's trigger", "Valid", "subject", "REGISTER", **self.relayed())
        add("an update for another tenant", "Valid", "subject", claims={"sub": tenant_id(CLOUD, OTHER_TRIGGER)})
        add("no sub", "Valid", "shape", claims={"sub": None})
        add("another site", "Valid", "audience", claims={"aud": OTHER_CLOUD})
        add("a list of sites", "Valid", "shape", claims={"aud": [CLOUD]})
        add("another issuer", "Valid", "issuer", claims={"iss": "https://other.example"})
        add("the issuer with a slash more", "Valid", "issuer", claims={"iss": f"{BACKEND}/"})
        add("61 s past its end", "Valid", "time", claims={"iat": NOW - 361, "exp": NOW - 61})
        add("61 s ahead", "Valid", "time", claims={"iat": NOW + 61, "exp": NOW + 361})
        add("a life of 301 s", "Valid", "time", claims={"exp": NOW + 301})
        add("an end before its start", "Valid", "time", claims={"exp": NOW - 1})
        add("no end", "Valid", "shape", claims={"exp": None})
        add("an end that is text", "Valid", "shape", claims={"exp": str(NOW + 300)})
        add("no jti", "Valid", "shape", claims={"jti": None})
        add("another body", "Valid", "body-hash", sent=self.body("UPDATE", transitionsDropped=1))
        add("the body with a space more", "Valid", "body-hash", sent=self.body("UPDATE") + " ")
        add("no hash", "Valid", "shape", claims={"body_sha256": None})

        add("a registration signed by the tenant's key", "Key", "unknown-key", "REGISTER", key=TENANT)
        add("an update signed by the deployment key", "Key", "unknown-key", key=DEPLOYMENT)
        add("a registration in the scope of updates", "Valid", "scope", body=self.body("REGISTER"))
        add("an update in the scope of registrations", "Valid", "scope", "REGISTER", body=self.body("UPDATE"))
        add("an unknown scope", "Key", "scope", claims={"scope": "health:delete"})
        add("no scope", "Key", "shape", claims={"scope": None})

        add("a body of another tenant", "Valid", "subject", body=self.body("UPDATE", tenantId=tenant_id(CLOUD, OTHER_TRIGGER)))
        add("a body of another site", "Valid", "audience", body=self.body("UPDATE", cloudId=OTHER_CLOUD))
        add("a body of another version", "Valid", "body", body=self.body("UPDATE", version=2))

        for name, alter in BAD_SIGNATURES.items():
            add(f"a signature: {name}", "Signature", "signature", alter=alter)
        # Under the neutral element as a key, R = neutral and S = 0 satisfy the equation for every message.
        neutral = encode_point(1, 0)
        weak = {"kid": kid(b64(neutral))}
        add("a signature that a key of small order accepts", "Key", "unknown-key", header=weak, alter=lambda _: neutral + bytes(32))
        return {
            "now": NOW,
            "backendUrl": BACKEND,
            "cloudId": CLOUD,
            "tenantId": OWN_TENANT,
            "keys": {"health:register": [jwk(public_x(DEPLOYMENT))], "health:update": [jwk(public_x(TENANT))]},
            "cases": self.cases,
        }

    def relayed(self) -> dict:
        """What the backend really signs for a stranger who registers with this site's cloudId and his own trigger."""
        stranger = tenant_id(CLOUD, OTHER_TRIGGER)
        return {"claims": {"sub": stranger}, "body": self.body("REGISTER", tenantId=stranger)}


def handoff(key: str = APP, header: dict | None = None, claims: dict | None = None, alter=lambda signature: signature) -> str:
    """The token of a hand-off made at NOW to register, with other headers and claims; None takes a claim away."""
    full_header = {"alg": "EdDSA", "typ": "forge-handoff+jwt", "kid": kid(public_x(key))} | (header or {})
    full_claims = {
        "iss": APP_ID,
        "aud": BACKEND,
        "iat": NOW,
        "exp": NOW + 600,
        "jti": "0123456789abcdef0123456789abcdef",
        "purpose": "register",
        "cloudId": CLOUD,
        "accountId": "p-1",
        "triggerUrl": TRIGGER,
        "callbackUrl": "https://shop.atlassian.net/jira/apps/health",
    } | (claims or {})
    full_claims = {name: value for name, value in full_claims.items() if value is not None}
    return sign(full_header, full_claims, key, alter)


def managements() -> list[dict]:
    """Hand-offs to change a service. `backend`: `accepted`, `late` (repeats an answer only) or the problem's code."""
    cases = []

    def add(name: str, backend: str, at: int = NOW, **changes) -> None:
        more = {
            "purpose": "manage",
            "serviceId": service_id(OWN_TENANT, URL),
            "serviceName": "Shop – 店",
            "serviceUrl": URL,
            "change": "remove",
        }
        changes["claims"] = more | changes.get("claims", {})
        cases.append({"name": name, "backend": backend, "at": at, "token": handoff(**changes)})

    invalid = "HANDOFF_INVALID"
    for change in ("remove", "pause", "resume"):
        add(f"to {change}", "accepted", claims={"change": change})
    add("an address that was cut short", "accepted", claims={"serviceUrl": f"https://example.com/{'a' * 492}…"})
    add("at its end", "accepted", at=NOW + 600)
    add("at the end of its grace", "late", at=NOW + 900)
    add("after its grace", "HANDOFF_EXPIRED", at=NOW + 901)
    add("for the other purpose", invalid, claims={"purpose": "register"})
    for name in ("serviceId", "serviceName", "serviceUrl", "change", "accountId", "jti"):
        add(f"without {name}", invalid, claims={name: None})
    for change in ("Remove", "", "delete", 1, ["remove"]):
        add(f"to {change!r}", invalid, claims={"change": change})
    add("a service that is no id", invalid, claims={"serviceId": "SERVICE#a"})
    add("a name that hides something", invalid, claims={"serviceName": "a\u202eb"})
    add("an address with a line break", invalid, claims={"serviceUrl": "https://example.com/\n"})
    add("a trigger that is not Atlassian's", "TRIGGER_NOT_ALLOWED", claims={"triggerUrl": "https://evil.example/x1/a"})
    add("a stranger's key", invalid, key=STRANGER)
    add("signed by the backend's deployment key", invalid, key=DEPLOYMENT)
    add("alg none", invalid, header={"alg": "none"})
    for name, alter in BAD_SIGNATURES.items():
        add(f"a signature: {name}", invalid, alter=alter)
    return cases


class Handoffs:
    """Hand-offs. `backend`: `accepted`, `late` (resumes only) or the problem's code; `app`: whether it knows it as its own."""

    def __init__(self) -> None:
        self.cases: list[dict] = []

    def add(self, name: str, backend: str, app: bool, at: int = NOW, **changes) -> None:
        self.cases.append({"name": name, "backend": backend, "app": app, "at": at, "token": handoff(**changes)})

    def all(self) -> dict:
        add = self.add
        invalid = "HANDOFF_INVALID"
        add("fresh", "accepted", True)
        add("60 s ahead", "accepted", True, at=NOW - 60)
        add("at its end", "accepted", True, at=NOW + 600)
        add("at the end of its grace", "late", True, at=NOW + 900)
        add("after its grace", "HANDOFF_EXPIRED", False, at=NOW + 901)
        add("61 s ahead", invalid, False, at=NOW - 61)
        add("a life of 601 s", invalid, False, claims={"exp": NOW + 601})
        add("for another backend", invalid, False, claims={"aud": "https://other.example"})
        add("for this backend with a slash more", invalid, False, claims={"aud": f"{BACKEND}/"})
        add("for another purpose", invalid, False, claims={"purpose": "manage"})
        add("for a purpose in another case", invalid, False, claims={"purpose": "Register"})
        add("a short jti", invalid, False, claims={"jti": "0123"})
        for name in ("iss", "aud", "iat", "exp", "jti", "purpose", "cloudId", "accountId", "triggerUrl"):
            add(f"without {name}", invalid, False, claims={name: None})
        add("a time that is text", invalid, False, claims={"iat": "soon"})
        add("a trigger that is not Atlassian's", "TRIGGER_NOT_ALLOWED", False, claims={"triggerUrl": "https://evil.example/x1/a"})
        add("a trigger with a query", "TRIGGER_NOT_ALLOWED", False, claims={"triggerUrl": f"{TRIGGER}?a"})
        # Good for the tenant that they name, which is not this installation.
        add("of another app under the same key", "accepted", False, claims={"iss": "ari:cloud:ecosystem::app/other"})
        add("of another site", "accepted", False, claims={"cloudId": OTHER_CLOUD})
        add("of another installation", "accepted", False, claims={"triggerUrl": OTHER_TRIGGER})

        add("the typ of a callback", invalid, False, header={"typ": "forge-callback+jwt"})
        add("alg none", invalid, False, header={"alg": "none"})
        add("a crit header", invalid, False, header={"crit": ["exp"]})
        add("a stranger's key", invalid, False, key=STRANGER)
        add("a stranger's key in a jwk header", invalid, False, key=STRANGER, header={"jwk": jwk(public_x(STRANGER))})
        add("a stranger's signature under the app's kid", invalid, False, key=STRANGER, header={"kid": kid(public_x(APP))})
        add("signed by the backend's deployment key", invalid, False, key=DEPLOYMENT)
        for name, alter in BAD_SIGNATURES.items():
            add(f"a signature: {name}", invalid, False, alter=alter)
        return {
            "app": APP_ID,
            "backendUrl": BACKEND,
            "cloudId": CLOUD,
            "triggerUrl": TRIGGER,
            "key": jwk(public_x(APP)),
            "cases": self.cases,
            "managements": managements(),
        }


def vectors() -> str:
    """The whole file."""
    document = {"ids": ids(), "keys": keys(), "callbacks": Callbacks().all(), "handoffs": Handoffs().all()}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(vectors(), end="")
