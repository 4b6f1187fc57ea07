"""JSON web tokens: which are accepted, what they allow, and the file of their issuer's public keys."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import CredentialsFileRejected
from lookalike_server.rpc.access import json_web_tokens
from lookalike_server.rpc.access.identity import UNKNOWN, Identity, Role
from lookalike_server.rpc.access.json_web_tokens import JwtRules, JwtVerifier
from lookalike_server.rpc.access.jwks_file import read_jwks
from support.credentials import AUDIENCE, Issuer
from support.fakes import RecordingObserver

HOUR = 3600


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """Make an issuer that no test changes."""
    return Issuer(tmp_path_factory.mktemp("issuer") / "jwks.json")


def verifier(issuer: Issuer, *, clock: Callable[[], float] = time.time, **rules: Any) -> JwtVerifier:
    """Verify this issuer's tokens."""
    return JwtVerifier(issuer.path, JwtRules(AUDIENCE, **rules), RecordingObserver(), clock)


def rejection(tokens: JwtVerifier, token: str, code: Code = Code.UNAUTHENTICATED) -> str:
    """Return why a token is rejected; the message must quote no part of it."""
    with pytest.raises(LookalikeError) as caught:
        tokens.find(token)
    assert caught.value.code is code
    assert not any(part and part in caught.value.message for part in token.split("."))
    return caught.value.message


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"roles": ["reader"]}, Identity("web", Role.READER)),
        ({"roles": "writer"}, Identity("web", Role.WRITER)),
        ({"roles": ["x", 3, "admin", "reader"]}, Identity("web", Role.ADMIN)),
        ({"sub": "ops", "categories": ["Men", "Women"]}, Identity("ops", Role.READER, frozenset(("Men", "Women")))),
        ({"categories": "Men"}, Identity("web", Role.READER, frozenset(("Men",)))),
        ({"aud": ["other", AUDIENCE]}, Identity("web", Role.READER)),
    ],
)
def test_roles_and_categories(issuer: Issuer, algorithm: str, claims: dict[str, Any], expected: Identity) -> None:
    """The highest role counts, categories bind, and the subject is the caller's name; also when it is remembered."""
    tokens = verifier(issuer)
    token = issuer.token(algorithm, **claims)
    assert [tokens.find(token), tokens.find(token)] == [expected, expected]
    assert tokens.remembered == 1


def test_other_claims(issuer: Issuer) -> None:
    """The settings say which claims have roles and categories, and which issuer is accepted."""
    rules = JwtRules(AUDIENCE, issuer="https://id.example", roles_claim="urn:x", categories_claim="shops")
    tokens = JwtVerifier(issuer.path, rules, RecordingObserver())
    others: dict[str, Any] = {"roles": ["admin"], "categories": ["A"]}
    token = issuer.token(iss="https://id.example", shops=["B"], **others, **{"urn:x": "reader"})
    assert tokens.find(token) == Identity("web", Role.READER, frozenset(("B",)))
    assert "issuer" in rejection(tokens, issuer.token(iss="https://other.example", **{"urn:x": "reader"}))
    assert rejection(tokens, issuer.token(**{"urn:x": "reader"}))


NOW = int(time.time())


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": None}, "no valid `exp`"),
        ({"exp": "tomorrow"}, "no valid `exp`"),
        ({"exp": 1e400}, "no valid `exp`"),
        ({"exp": True}, "no valid `exp`"),
        ({"exp": NOW - HOUR}, "has expired"),
        ({"exp": -(10**400)}, "has expired"),
        ({"exp": NOW - 90}, "has expired"),
        ({"iat": NOW + HOUR, "exp": NOW + 2 * HOUR}, "not valid yet"),
        ({"nbf": NOW + HOUR, "exp": NOW + 2 * HOUR}, "not valid yet"),
        ({"aud": "other"}, "another audience"),
        ({"aud": ["other"]}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": {AUDIENCE: 1}}, "another audience"),
        ({"sub": None}, "`sub`"),
        ({"sub": ""}, "`sub`"),
        ({"sub": "a\nb"}, "`sub`"),
        ({"sub": "x" * 129}, "`sub`"),
        ({"sub": 7}, "`sub`"),
        ({"categories": []}, "`categories`"),
        ({"categories": [3]}, "`categories`"),
        ({"categories": None, "roles": ["reader"], "exp": NOW - HOUR}, "has expired"),
    ],
)
def test_claims_that_are_rejected(issuer: Issuer, claims: dict[str, Any], expected: str) -> None:
    """A token that its issuer signed and that is not for us, or not for now, is UNAUTHENTICATED and says why."""
    tokens = verifier(issuer)
    assert expected in rejection(tokens, issuer.token(**claims))
    assert tokens.remembered == 0


@pytest.mark.parametrize("roles", [None, [], ["owner"], {"admin": True}, "Reader"])
def test_a_token_without_a_role(issuer: Issuer, roles: object) -> None:
    """A caller who is known and has no role here is PERMISSION_DENIED."""
    assert "`roles`" in rejection(verifier(issuer), issuer.token(roles=roles), Code.PERMISSION_DENIED)


def test_clock_skew(issuer: Issuer) -> None:
    """Clocks may differ by the setting, either way, and no more."""
    token = issuer.token(iat=NOW, exp=NOW + 100)
    for clock, ok in ((NOW - 59, True), (NOW - 62, False), (NOW + 158, True), (NOW + 161, False)):
        tokens = verifier(issuer, clock=lambda clock=clock: clock)  # type: ignore[misc]
        if ok:
            tokens.find(token)
        else:
            rejection(tokens, token)


def test_a_remembered_token_expires(issuer: Issuer) -> None:
    """A token that was verified is UNAUTHENTICATED once it has expired, and is then forgotten."""
    now = float(NOW)
    tokens = verifier(issuer, clock=lambda: now)
    token = issuer.token(iat=NOW, exp=NOW + 100)
    tokens.find(token)
    now += 159
    tokens.find(token)
    now += 2
    assert "has expired" in rejection(tokens, token)
    assert tokens.remembered == 0


def test_a_token_that_never_expires(issuer: Issuer) -> None:
    """An absurd time is no fault of the server, if the issuer signs it."""
    assert verifier(issuer).find(issuer.token(exp=10**400)).name == "web"


def test_few_tokens_are_remembered(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tokens come, no more than the bound are remembered."""
    monkeypatch.setattr(json_web_tokens, "MAX_REMEMBERED", 3)
    tokens = verifier(issuer)
    for number in range(5):
        tokens.find(issuer.token(sub=f"web{number}"))
    assert tokens.remembered == 3


def part(value: object) -> str:
    """Encode a part of a token."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(issuer: Issuer) -> dict[str, str]:
    """Make tokens that nobody of ours has signed."""
    header, payload, signature = issuer.token("RS256").split(".")
    other = RSAKey.generate_key(2048)
    claims = {"sub": "web", "aud": AUDIENCE, "exp": NOW + HOUR, "roles": ["admin"]}
    pem = issuer.keys["RS256"].as_pem(private=False)
    jwk = json.dumps(issuer.keys["RS256"].as_dict(private=False)).encode()

    secrets = [OctKey.import_key(base64.urlsafe_b64encode(each).decode()) for each in (pem, jwk)]
    return {
        "none": f"{part({'alg': 'none'})}.{payload}.",
        "None": f"{part({'alg': 'None'})}.{payload}.{signature}",
        "no alg": f"{part({'typ': 'JWT'})}.{payload}.{signature}",
        "a list as alg": f"{part({'alg': ['RS256']})}.{payload}.{signature}",
        "HS256 with the public PEM": jwt.encode({"alg": "HS256", "kid": "r1"}, claims, secrets[0]),
        "HS256 with the public JWK": jwt.encode({"alg": "HS256", "kid": "r1"}, claims, secrets[1]),
        "another key": jwt.encode({"alg": "RS256", "kid": "r1"}, claims, other),
        "another key, in the header": jwt.encode(
            {"alg": "RS256", "jwk": other.as_dict(private=False)},
            claims,
            other,
        ),
        "another kid": jwt.encode({"alg": "RS256", "kid": "r2"}, claims, issuer.keys["RS256"]),
        "an algorithm that is not accepted": jwt.encode(
            {"alg": "PS256", "kid": "r1"}, claims, issuer.keys["RS256"], algorithms=["PS256"]
        ),
        "the other algorithm": f"{part({'alg': 'ES256', 'kid': 'r1'})}.{payload}.{signature}",
        "other claims": f"{header}.{part(claims)}.{signature}",
        "no signature": f"{header}.{payload}.",
        "two parts": f"{header}.{payload}",
        "five parts": f"{header}.{payload}.{signature}.{payload}.{signature}",
        "claims that are no object": jwt_of(issuer, b"[1]"),
        "claims that are no JSON": jwt_of(issuer, b"{"),
        "a deep header": f"{part(b'[' * 4000)}.{payload}.{signature}",
        "no base64": "!.!.!",
        "dots": "..",
        "empty": "",
        "not ASCII": "\N{SNOWMAN}.\N{SNOWMAN}.\N{SNOWMAN}",
        "an unknown critical header": jwt_of(issuer, json.dumps(claims).encode(), crit=["x"], x=1),
    }


def jwt_of(issuer: Issuer, payload: bytes, **header: Any) -> str:
    """Sign any bytes by the issuer's key."""
    key: Any = issuer.keys["RS256"]
    signed = f"{part({'alg': 'RS256', 'kid': 'r1', **header})}.{part(payload)}"
    return f"{signed}.{part(key.private_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_tokens_that_nobody_signed(issuer: Issuer) -> None:
    """Whatever is wrong with a token that no key of the issuer has signed, its caller gets the same sentence."""
    tokens = verifier(issuer)
    for name, token in forged(issuer).items():
        with pytest.raises(LookalikeError) as caught:
            tokens.find(token)
        assert (name, caught.value.code, caught.value.message) == (name, Code.UNAUTHENTICATED, UNKNOWN)
    good = json.dumps({"sub": "web", "aud": AUDIENCE, "exp": NOW + HOUR, "roles": ["admin"]}).encode()
    tokens.find(jwt_of(issuer, good))  # so that those above are rejected for what is wrong with them


def test_new_public_keys(tmp_path: Path) -> None:
    """A new file is in force at once when asked for: tokens of a key that it has no longer are forgotten."""
    issuer = Issuer(tmp_path / "jwks.json")
    observer = RecordingObserver()
    tokens = JwtVerifier(issuer.path, JwtRules(AUDIENCE), observer)
    old = issuer.token()
    tokens.find(old)
    good = issuer.path.read_text(encoding="utf-8")
    issuer.path.write_text(good[:40], encoding="utf-8")
    tokens.reload()
    assert tokens.find(old).name == "web"
    assert len(observer.of(CredentialsFileRejected)) == 1
    issuer.keys["ES256"] = ECKey.generate_key("P-256", {"kid": "e1"})
    issuer.publish()
    tokens.reload()
    assert rejection(tokens, old) == UNKNOWN
    assert tokens.find(issuer.token()).name == "web"


RSA = RSAKey.generate_key(2048)
SHORT = {"kty": "RSA", "e": "AQAB", "n": base64.urlsafe_b64encode(b"\xff" * 128).rstrip(b"=").decode()}
CURVE = ECKey.generate_key("P-384")


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty, or no JSON, or only half of it"),
        ('{"keys": [{"kty": "RSA", "n": "x', "only half of it"),
        ("[" * 100_000, "no JSON"),
        ("[]", "is no JWKS"),
        ("{}", "is no JWKS"),
        ([], "has no key that signs"),
        ([{"kty": "RSA", "use": "enc"}], "has no key that signs"),
        ([1], "keys[0] must be an object"),
        ([RSA.as_dict(private=False), {"kty": "oct", "k": "c2VjcmV0"}], "keys[1] is not for RS256 or ES256"),
        ([{**RSA.as_dict(private=False), "alg": "RS512"}], "keys[0] is not for RS256 or ES256"),
        ([{**RSA.as_dict(private=False), "alg": "none"}], "keys[0] is not for RS256 or ES256"),
        ([{**RSA.as_dict(private=False), "alg": "ES256"}], "keys[0] is not for RS256 or ES256"),
        ([{"kty": ["RSA"]}], "keys[0] is not for RS256 or ES256"),
        ([RSA.as_dict(private=True)], "keys[0] is a private key"),
        ([{"kty": "RSA", "n": "!", "e": "AQAB"}], "keys[0] is damaged"),
        ([{"kty": "RSA"}], "keys[0] is damaged"),
        ([SHORT], "keys[0] has 1024 bits"),
        ([CURVE.as_dict(private=False)], "keys[0] is not on the curve P-256"),
        ([{**RSA.as_dict(private=False), "kid": 1}], "kid must be text"),
    ],
)
def test_a_jwks_that_cannot_be_used(tmp_path: Path, content: str | list[Any], expected: str) -> None:
    """It is an error that names the file and the key, and quotes none."""
    path = tmp_path / "jwks.json"
    text = content if isinstance(content, str) else json.dumps({"keys": content})
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LookalikeError) as caught:
        read_jwks(path)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert expected in caught.value.message
    assert str(path) in caught.value.message
    assert "c2VjcmV0" not in caught.value.message


def test_a_jwks_of_an_ordinary_issuer(tmp_path: Path) -> None:
    """Keys for encryption, and keys without alg, use or kid, are no error."""
    path = tmp_path / "jwks.json"
    keys = [{"kty": "RSA", "use": "enc", "alg": "RSA-OAEP"}, RSA.as_dict(private=False)]
    path.write_text(json.dumps({"keys": keys}), encoding="utf-8")
    (only,) = read_jwks(path)
    assert only.algorithm == "RS256"
    with pytest.raises(LookalikeError, match="cannot read the JWKS"):
        read_jwks(tmp_path / "none")
