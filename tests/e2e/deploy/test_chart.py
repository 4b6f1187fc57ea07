"""The Helm chart: what it renders is what Kubernetes takes, and what the server needs; other values are rejected."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.deploy.programs import CHART, VALUES, container, objects, pod, rendered, run
from lookalike_server.config import Settings

SETS = sorted(VALUES.glob("*.yaml"))
RULES = CHART.parents[1] / "prometheus" / "rules.yaml"


def test_lint() -> None:
    """Helm finds nothing to say about the chart but that it has no icon."""
    for values in SETS:
        said = run("helm", "lint", "--strict", CHART, f"--values={values}")
        assert "[WARNING]" not in said
        assert "[ERROR]" not in said


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.stem)
def test_objects_are_what_kubernetes_takes(values: Path) -> None:
    """Each object is decoded by Kubernetes' own types with no unknown field, and each pod is a restricted one."""
    text = rendered(values)
    decoded = [json.loads(line) for line in run("decode", stdin=text).splitlines()]
    assert {(each["kind"], each["name"]) for each in decoded} == set(objects(text))
    # The one volume of these sets that a restricted pod may not have is a folder of its node.
    forbidden = {words.partition(":")[0] for each in decoded for words in each["forbidden"]}
    assert forbidden == ({"restricted volume types"} if "hostPath:" in text else set())


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("terminationGracePeriodSeconds:", "terminationGraceSeconds:", "unknown field"),
        ("replicas: 1", 'replicas: "1"', "cannot unmarshal string"),
        ("kind: NetworkPolicy", "kind: NetworkPolice", "no kind"),
    ],
)
def test_decoding_is_strict(before: str, after: str, words: str) -> None:
    """A field that is spelled wrong, a number that is text and a kind that is none are found."""
    text = rendered()
    assert before in text
    with pytest.raises(AssertionError, match=words):
        run("decode", stdin=text.replace(before, after))


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.stem)
def test_environment_is_settings(values: Path) -> None:
    """Every LOOKALIKE_ variable is a setting with a value that the server takes, and the grace covers the shutdown."""
    text = rendered(values)
    variables = {name: value for name, value in container(text)["env"].items() if name.startswith("LOOKALIKE_")}
    given = {name.removeprefix("LOOKALIKE_").lower(): value for name, value in variables.items()}
    assert set(given) <= set(Settings.model_fields)
    settings = Settings(**given)
    shutdown = math.ceil(settings.lame_duck_seconds + settings.shutdown_grace_seconds + 8)
    assert pod(text)["terminationGracePeriodSeconds"] == shutdown


def test_numbers_arrive_whole() -> None:
    """A large number and a fraction reach the server as they are written, not as 5.36870912e+08."""
    env = container(rendered(VALUES / "protected.yaml"))["env"]
    assert env["LOOKALIKE_MAX_DECODING_BYTES"] == "536870912"
    assert env["LOOKALIKE_RECALL_SAMPLE_RATE"] == "0.05"
    assert env["LOOKALIKE_LAME_DUCK_SECONDS"] == "12.5"


@pytest.mark.parametrize(
    ("values", "startup", "readiness", "liveness"),
    [
        (
            "insecure",
            {"grpc": {"port": 50051, "service": "startup"}},
            {"grpc": {"port": 50051, "service": "readiness"}},
            {"grpc": {"port": 50051, "service": "liveness"}},
        ),
        (
            "default",
            {"httpGet": {"port": "metrics", "path": "/readyz"}},
            {"httpGet": {"port": "metrics", "path": "/readyz"}},
            {"httpGet": {"port": "metrics", "path": "/healthz"}},
        ),
        (
            "exec",
            {"exec": {"command": ["lookalike-server", "health", "--service", "startup", "--timeout", "8"]}},
            {"exec": {"command": ["lookalike-server", "health", "--service", "readiness", "--timeout", "8"]}},
            {"exec": {"command": ["lookalike-server", "health", "--service", "liveness", "--timeout", "8"]}},
        ),
    ],
)
def test_probes(values: str, startup: dict[str, Any], readiness: dict[str, Any], liveness: dict[str, Any]) -> None:
    """Probes ask gRPC where there is no TLS, else over HTTP, else by the command; a start may take ten minutes."""
    server = container(rendered(VALUES / f"{values}.yaml"))
    asked = [server[f"{name}Probe"] for name in ("startup", "readiness", "liveness")]
    timing = {"periodSeconds", "timeoutSeconds", "failureThreshold"}
    assert [{key: each[key] for key in each.keys() - timing} for each in asked] == [startup, readiness, liveness]
    assert asked[0]["periodSeconds"] * asked[0]["failureThreshold"] == 600
    assert all(each["timeoutSeconds"] > 8 for each in asked if "exec" in each)


def test_every_volume_is_mounted_where_the_settings_say() -> None:
    """Files that settings name are in volumes that the pod has, none of which but the catalog and /tmp is written."""
    text = rendered(VALUES / "protected.yaml")
    server = container(text)
    mounts = {each["mountPath"]: each for each in server["volumeMounts"]}
    assert {each["name"] for each in mounts.values()} == {each["name"] for each in pod(text)["volumes"]}
    assert {path for path, each in mounts.items() if not each.get("readOnly")} == {"/data", "/tmp"}  # noqa: S108 - in the container
    files = [value for name, value in server["env"].items() if name.endswith("_FILE")]
    assert len(files) == 6
    assert {path.rpartition("/")[0] for path in files} <= set(mounts)
    assert Path(server["env"]["LOOKALIKE_DATA_DIR"]).is_relative_to("/data")


def test_secrets_are_readable_to_the_server_alone() -> None:
    """Keys belong to root and the server's group, and others may not read them, as the server requires."""
    spec = pod(rendered(VALUES / "protected.yaml"))
    modes = {each["secret"]["defaultMode"] for each in spec["volumes"] if "secret" in each}
    assert modes == {0o440}
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsUser"] == 10001


def test_one_server_owns_the_catalog() -> None:
    """The old pod ends before the new one starts, and the claim outlives the release."""
    found = objects(rendered())
    deployment = found["Deployment", "shop-lookalike"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    claim = found["PersistentVolumeClaim", "shop-lookalike-catalog"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (volume,) = [each for each in pod(rendered())["volumes"] if each["name"] == "catalog"]
    assert volume["persistentVolumeClaim"]["claimName"] == "shop-lookalike-catalog"


def test_the_network_policy_keeps_others_out() -> None:
    """Callers reach the one port, those who monitor the other one, and the server reaches nobody."""
    policy = objects(rendered(VALUES / "protected.yaml"))["NetworkPolicy", "search"]["spec"]
    ports = {
        each["ports"][0]["port"]: each["from"][0]["namespaceSelector"]["matchLabels"] for each in policy["ingress"]
    }
    assert {port: labels["kubernetes.io/metadata.name"] for port, labels in ports.items()} == {
        "grpc": "web",
        "metrics": "monitoring",
    }
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])


def test_selectors_select() -> None:
    """The services, the policy and the deployment select the chart's pods, and the monitor its metrics' service."""
    found = objects(rendered(VALUES / "monitoring.yaml"))
    name = "shop-lookalike"
    labels = found["Deployment", name]["spec"]["template"]["metadata"]["labels"].items()
    assert found["Deployment", name]["spec"]["selector"]["matchLabels"].items() <= labels
    assert found["Service", name]["spec"]["selector"].items() <= labels
    assert found["Service", f"{name}-metrics"]["spec"]["selector"].items() <= labels
    assert found["NetworkPolicy", name]["spec"]["podSelector"]["matchLabels"].items() <= labels
    monitor = found["ServiceMonitor", name]["spec"]
    selected = [
        key
        for key, each in found.items()
        if key[0] == "Service" and monitor["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]
    assert selected == [("Service", f"{name}-metrics")]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in found["Service", f"{name}-metrics"]["spec"]["ports"]}


def test_alerts_are_those_of_prometheus() -> None:
    """The rule of the operator has the groups of deploy/prometheus/rules.yaml, unchanged."""
    rule = objects(rendered(VALUES / "monitoring.yaml"))["PrometheusRule", "shop-lookalike"]
    assert rule["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))
    assert rule["spec"]["groups"]


def test_a_gpu_is_limited_and_required() -> None:
    """A pod with a GPU asks for one, and the server does not fall back to the CPU unless that is said."""
    server = container(rendered(VALUES / "gpu.yaml"))
    assert server["resources"]["limits"] == {"nvidia.com/gpu": 1, "cpu": "2", "memory": "4Gi"}
    assert server["env"]["LOOKALIKE_PROVIDER"] == "cuda"
    chosen = container(rendered(VALUES / "gpu.yaml", changes={"settings.provider": "auto"}))["env"]
    assert chosen["LOOKALIKE_PROVIDER"] == "auto"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replicas": 2}, r"(?s)replicas.*must be 1"),
        ({"replcas": 1}, "(?s)additional properties 'replcas' not allowed"),
        ({"tls.enabled": False}, "set it, with tls.secretName, or set insecure: true"),
        ({"tls.secretName": ""}, "name a secret of type kubernetes.io/tls"),
        ({"auth.keysSecretName": ""}, "nobody would need a key: set auth.keysSecretName"),
        ({"auth.jwksConfigMapName": "issuer"}, "needs settings.jwt_audience"),
        ({"tls.clientCaSecretName": "ca", "metrics.enabled": False}, "probes have no client certificate"),
        ({"tls.clientCaSecretName": "ca", "tls.enabled": False, "insecure": True}, "needs TLS: set tls.enabled"),
        ({"model.source": "init"}, "set model.init.image and model.init.command"),
        ({"model.source": "image"}, "(?s)model.source.*must be one of 'volume', 'init'"),
        ({"model.claimName": ""}, "set model.claimName, or model.volume"),
        ({"metrics.enabled": False, "metrics.serviceMonitor.enabled": True}, "need metrics.enabled: true"),
        ({"metrics.port": 50051}, "where calls go: choose another one"),
        ({"settings.max_batchsize": 4}, "(?s)additional properties 'max_batchsize' not allowed"),
        ({"settings.max_batch_size": 0}, "(?s)settings.max_batch_size.*minimum"),
        ({"settings.listen": "0.0.0.0:1"}, "(?s)additional properties 'listen' not allowed"),
        ({"extraEnv": [{"name": "LOOKALIKE_LOG_LEVEL", "value": "debug"}]}, "under settings, as log_level"),
        ({"extraArgs": ["--listen=0.0.0.0:1"]}, "--listen=0.0.0.0:1 is set by the chart"),
        ({"extraArgs": ["--shutdown-grace-seconds=90"]}, "would override settings.shutdown_grace_seconds"),
        ({"extraArgs": ["serve"]}, "(?s)extraArgs.*does not match pattern"),
        ({"catalog.accessMode": "ReadWriteMany"}, "(?s)catalog.accessMode.*must be one of"),
        ({"catalog.size": "much"}, "(?s)catalog.size.*does not match pattern"),
        ({"securityContext.runAsUser": 0}, "(?s)securityContext.runAsUser.*minimum"),
        ({"networkPolicy.clients": []}, "(?s)networkPolicy.clients.*minItems"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_values_that_are_rejected(changes: dict[str, Any], words: str) -> None:
    """Values that no server or no cluster could use are an error that names them, and says what to do."""
    with pytest.raises(AssertionError, match=words):
        rendered(changes=changes)
