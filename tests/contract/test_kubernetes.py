"""The manifests are valid, render for every overlay, and their numbers are those of the settings."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import pytest
import yaml

import consumer.settings
import ingest.settings
from consumer.operations.canary import CLIENT_ID
from tests.support.containers import ROOT, compose_file, part, stages, version

DIRECTORY: Final = ROOT / "deploy/kubernetes"
OVERLAYS: Final = ("base", "overlays/sandbox", "overlays/production")
COMPLETE: Final = OVERLAYS[1:]
API: Final = "1.34"
KUBECTL: Final = Path(sys.executable).parent / "kubectl"
MIB: Final = 1024 * 1024
SCALER_READS: Final = frozenset({
    "bootstrapServers", "consumerGroup", "topic", "lagThreshold", "activationLagThreshold", "offsetResetPolicy",
    "allowIdleConsumers", "excludePersistentLag", "sasl", "username", "password", "tls", "ca",
})  # fmt: skip
SIZES: Final = {"Ki": 1024, "Mi": MIB, "Gi": 1024 * MIB}

Manifest = dict[str, Any]


@cache
def rendered(overlay: str) -> list[Manifest]:
    """Return an overlay's objects, as `kubectl apply -k` would send them."""
    run = subprocess.run(
        [KUBECTL, "kustomize", str(DIRECTORY / overlay)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    return list(yaml.safe_load_all(run.stdout))


def find(overlay: str, kind: str, name: str) -> Manifest:
    """Return one object."""
    (found,) = [item for item in rendered(overlay) if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def workloads(overlay: str) -> Iterator[tuple[str, Manifest]]:
    """Yield the name and the pod's spec of everything that runs pods."""
    for item in rendered(overlay):
        if "template" in item.get("spec", {}):
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]


def container(overlay: str, workload: str) -> Manifest:
    """Return the only container of a workload."""
    (found,) = dict(workloads(overlay))[workload]["containers"]
    return dict(found)


def environment(overlay: str, workload: str) -> dict[str, str]:
    """Return what a container sees: the image's variables, then the map's, then its own."""
    holder = container(overlay, workload)
    image = holder["image"].partition(":")[0].removeprefix("headrace/")
    own = {item["name"]: str(item.get("value", "a-pod-0")) for item in holder.get("env", ())}
    maps = [find(overlay, "ConfigMap", source["configMapRef"]["name"])["data"] for source in holder["envFrom"]]
    return stages(image)[-1].environment() | {name: str(text) for each in maps for name, text in each.items()} | own


def validate(item: Manifest) -> None:
    """Hold an object against the API's schema of its kind, or against KEDA's.

    Raises:
        ValidationError: a field is unknown, or not of its type.
        LookupError: there is no schema for it.
    """
    group, _, version_of = item["apiVersion"].rpartition("/")
    if group == "keda.sh":
        jsonschema.validate(item, keda_schema(item["kind"], version_of))
    else:
        kubernetes_validate.validate(item, API, strict=True)


@cache
def keda_schema(kind: str, version_of: str) -> Manifest:
    """Return the schema of one of KEDA's kinds, in which an unknown field is an error."""
    path = ROOT / f"tests/support/keda/keda.sh_{kind.lower()}s.yaml"
    if not path.exists():
        raise LookupError(f"there is no schema of KEDA's {kind}")
    versions = yaml.safe_load(path.read_text("utf-8"))["spec"]["versions"]
    found = {one["name"]: one["schema"]["openAPIV3Schema"] for one in versions}
    return dict(closed(found[version_of], is_top=True))


def closed(schema: Any, *, is_top: bool = False) -> Any:
    """Return a schema whose objects have no other members than the named ones; `metadata` is the API's."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(one) for name, one in schema.items()}
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not is_open:
        made["additionalProperties"] = False
    if is_top:
        made["properties"]["metadata"] = {"type": "object"}
    return made


def size_bytes(text: str) -> int:
    """Return a quantity of Kubernetes in bytes."""
    number, unit = re.fullmatch(r"(\d+)(\w*)", text).groups()  # type: ignore[union-attr]  # it matches
    return int(number) * SIZES[unit]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid_for_the_api(overlay: str) -> None:
    """Each field is one of the API's schema, or of KEDA's, of its type."""
    kinds = set()
    for item in rendered(overlay):
        kinds.add(item["kind"])
        validate(item)

    assert kinds >= {"StatefulSet", "Deployment", "Job", "Service", "PodDisruptionBudget", "NetworkPolicy", "ConfigMap"}


def test_the_check_finds_a_slip() -> None:
    """A field that the API does not have is an error, not ignored."""
    slipped = json.loads(json.dumps(find("base", "StatefulSet", "ingest")))
    slipped["spec"]["template"]["spec"]["terminationGracePeriod"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(slipped)


def _scaler(**spec: object) -> Manifest:
    made: Manifest = json.loads(json.dumps(find("overlays/production", "ScaledObject", "consumer")))
    made["spec"].update(spec)
    return made


def _login(**secret: object) -> Manifest:
    made: Manifest = json.loads(json.dumps(find("overlays/production", "TriggerAuthentication", "kafka")))
    made["spec"]["secretTargetRef"][0].update(secret)
    return made


@pytest.mark.parametrize(
    "slipped",
    [
        lambda: _scaler(maxReplicas=12),
        lambda: _scaler(maxReplicaCount="12"),
        lambda: _scaler(scaleTargetRef={"kind": "StatefulSet"}),
        lambda: _scaler(triggers=[{"type": "kafka", "metadata": {"lagThreshold": 100}}]),
        lambda: _scaler(triggers=[{"type": "kafka"}]),
        lambda: _login(secretName="x"),
        lambda: _login(key=None),
        lambda: _scaler() | {"apiVersion": "keda.sh/v1"},
    ],
)
def test_the_check_finds_a_slip_in_an_object_of_keda(slipped: Callable[[], Manifest]) -> None:
    """Its API would drop an unknown field silently."""
    with pytest.raises((jsonschema.ValidationError, LookupError)):
        validate(slipped())


def test_the_scaler_takes_each_member_of_the_trigger() -> None:
    """The schema of KEDA allows any: these are what its scaler for Kafka reads (its page `apache-kafka`)."""
    (trigger,) = find("overlays/production", "ScaledObject", "consumer")["spec"]["triggers"]
    secrets = find("overlays/production", "TriggerAuthentication", "kafka")["spec"]["secretTargetRef"]

    assert trigger["metadata"].keys() <= SCALER_READS
    assert {secret["parameter"] for secret in secrets} <= SCALER_READS


@pytest.mark.parametrize("overlay", COMPLETE)
@pytest.mark.parametrize("workload", ["ingest", "consumer", "canary", "migrate"])
def test_every_setting_exists_and_its_value_is_accepted(overlay: str, workload: str) -> None:
    """`load` takes a container's environment."""
    environ = environment(overlay, workload)
    if workload == "ingest":
        assert ingest.settings.load(environ).environment == overlay.rpartition("/")[2]
    else:
        assert consumer.settings.load(environ).clickhouse_user == (
            "headrace_ops" if workload == "migrate" else "headrace_worker"
        )


@pytest.mark.parametrize("overlay", COMPLETE)
def test_every_file_that_a_setting_names_is_mounted(overlay: str) -> None:
    """Secrets and certificates are files of Secrets and ConfigMaps; no variable holds a secret."""
    for workload, spec in workloads(overlay):
        holder = container(overlay, workload)
        mounts = {mount["mountPath"]: mount["name"] for mount in holder["volumeMounts"]}
        kinds = {volume["name"]: set(volume) - {"name"} for volume in spec["volumes"]}
        needless = {"CONSUMER_KAFKA_CONFIG_FILE"} if workload in {"canary", "migrate"} else set()  # they ask no broker
        for name, value in environment(overlay, workload).items():
            assert not re.search(r"PASSWORD$|SECRET$|TOKEN$", name), name
            if value.startswith("/run/secrets/") and name not in needless:
                where = next(path for path in mounts if value.startswith(f"{path}/"))
                assert kinds[mounts[where]] & {"secret", "configMap"}, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_may_do_nothing_but_run(overlay: str) -> None:
    """As any user but root, on a read-only root, without capabilities or a token; where they write is a volume."""
    for workload, spec in workloads(overlay):
        holder = container(overlay, workload)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert "runAsUser" not in spec["securityContext"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert holder["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert holder["resources"]["limits"]["memory"]
        assert holder["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "/tmp" in {mount["mountPath"] for mount in holder["volumeMounts"]}  # noqa: S108  (a volume of the pod)


@pytest.mark.parametrize("overlay", COMPLETE)
def test_memory_and_disk_are_what_the_settings_need(overlay: str) -> None:
    """The formulas of docs/OPERATIONS.md, with the values of this overlay."""
    loaded = ingest.settings.load(environment(overlay, "ingest"))
    needed = loaded.workers * (150_000_000 + loaded.memory_bytes_max + loaded.queue_bytes_max)
    assert size_bytes(container(overlay, "ingest")["resources"]["limits"]["memory"]) >= needed
    (claim,) = find(overlay, "StatefulSet", "ingest")["spec"]["volumeClaimTemplates"]
    on_disk = loaded.spool_bytes_max + loaded.spool_free_bytes_min + loaded.workers * 32 * MIB
    assert size_bytes(claim["spec"]["resources"]["requests"]["storage"]) >= on_disk

    worker = consumer.settings.load(environment(overlay, "consumer"))
    needed = 150_000_000 + worker.waiting_bytes_max + worker.insert_threads * worker.batch_bytes_max + 16 * MIB
    assert size_bytes(container(overlay, "consumer")["resources"]["limits"]["memory"]) >= needed


@pytest.mark.parametrize("overlay", COMPLETE)
def test_pods_have_time_to_end(overlay: str) -> None:
    """preStop, then what each service needs at most, and 5 s."""
    pods = dict(workloads(overlay))
    loaded = ingest.settings.load(environment(overlay, "ingest"))
    pause_s = container(overlay, "ingest")["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed_s = pause_s + loaded.shutdown_grace_s + ingest.settings.finish_s(loaded) + 10
    assert pods["ingest"]["terminationGracePeriodSeconds"] >= needed_s + 5
    worker = consumer.settings.load(environment(overlay, "consumer"))
    assert pods["consumer"]["terminationGracePeriodSeconds"] >= worker.revoke_s_max + worker.drain_s_max + 5


@pytest.mark.parametrize("overlay", COMPLETE)
def test_ports_and_probes_are_those_of_the_settings(overlay: str) -> None:
    """Liveness asks /healthz, readiness /readyz; the Service publishes the collector and not its metrics."""
    for workload in ("ingest", "consumer", "canary"):
        holder, environ = container(overlay, workload), environment(overlay, workload)
        ports = {port["name"]: port["containerPort"] for port in holder["ports"]}
        if workload == "ingest":
            loaded = ingest.settings.load(environ)
            assert ports == {"http": loaded.port, "operations": loaded.operations_port}
        else:
            assert ports == {"operations": consumer.settings.load(environ).http_port}
        assert holder["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "operations"}
        assert holder["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "operations"}
        pods = find(overlay, "Deployment" if workload == "canary" else "StatefulSet", workload)["spec"]["template"]
        assert pods["metadata"]["annotations"]["prometheus.io/port"] == str(ports["operations"])
    assert [port["targetPort"] for port in find(overlay, "Service", "ingest")["spec"]["ports"]] == ["http"]


@pytest.mark.parametrize("overlay", COMPLETE)
def test_volumes_are_mounted_where_the_settings_write(overlay: str) -> None:
    """The spool outlives the pod; the cache of schemas need not."""
    for workload in ("ingest", "consumer"):
        mounts = {mount["mountPath"]: mount["name"] for mount in container(overlay, workload)["volumeMounts"]}
        written = {path for path in environment(overlay, workload).values() if path.startswith("/var/lib/")}
        assert written <= mounts.keys()
        if workload == "ingest":
            assert mounts[ingest.settings.load(environment(overlay, workload)).spool_dir] == "spool"
    sets = find(overlay, "StatefulSet", "ingest")["spec"]
    assert [claim["metadata"]["name"] for claim in sets["volumeClaimTemplates"]] == ["spool"]
    assert sets["persistentVolumeClaimRetentionPolicy"] == {"whenScaled": "Retain", "whenDeleted": "Retain"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_meet_pods(overlay: str) -> None:
    """Every Service, budget, policy and scaler is about pods that are there."""
    pods = [
        item["spec"]["template"]["metadata"]["labels"]
        for item in rendered(overlay)
        if "template" in item.get("spec", {})
    ]
    for item in rendered(overlay):
        spec = item.get("spec", {})
        selector = {"Service": "selector", "PodDisruptionBudget": "selector", "NetworkPolicy": "podSelector"}.get(
            item["kind"]
        )
        if selector is None:
            continue
        wanted = spec[selector] if item["kind"] == "Service" else spec[selector].get("matchLabels", {})
        listed = {rule["key"]: rule["values"] for rule in spec[selector].get("matchExpressions", ())}
        assert [
            labels
            for labels in pods
            if wanted.items() <= labels.items() and all(labels[key] in values for key, values in listed.items())
        ], item["metadata"]["name"]


@pytest.mark.parametrize("overlay", COMPLETE)
def test_network_policies_let_through_what_the_settings_need(overlay: str) -> None:
    """Nothing by default; the ports of each server that a workload's settings name are open for it."""
    for workload, _ in workloads(overlay):
        environ = environment(overlay, workload)
        of_kafka = set() if workload in {"canary", "migrate"} else {"BOOTSTRAP_SERVERS"}
        named = {
            int(port)
            for name, text in environ.items()
            if name.endswith("_URL") or name.partition("_")[2] in of_kafka
            for port in re.findall(r":(\d+)", text)
        }
        named = {8080 if port == 80 else port for port in named}  # the Service's port is the pod's 8080
        assert named <= _open_ports(overlay, workload, "egress"), workload
    assert _open_ports(overlay, "ingest", "ingress") == {8080, 8081}
    assert _open_ports(overlay, "consumer", "ingress") == {8081}
    nothing = find(overlay, "NetworkPolicy", "nothing")["spec"]
    assert (nothing["policyTypes"], nothing.get("ingress"), nothing.get("egress")) == (
        ["Ingress", "Egress"],
        None,
        None,
    )


def _open_ports(overlay: str, workload: str, direction: str) -> set[int]:
    (labels,) = [
        item["spec"]["template"]["metadata"]["labels"]
        for item in rendered(overlay)
        if "template" in item.get("spec", {}) and item["metadata"]["name"] == workload
    ]
    found = set()
    for item in rendered(overlay):
        if item["kind"] == "NetworkPolicy":
            selector = item["spec"]["podSelector"]
            listed = {rule["key"]: rule["values"] for rule in selector.get("matchExpressions", ())}
            if selector.get("matchLabels", {}).items() <= labels.items() and all(
                labels[key] in of for key, of in listed.items()
            ):
                found |= {port["port"] for rule in item["spec"].get(direction, ()) for port in rule["ports"]}
    return found - {53}


@pytest.mark.parametrize("overlay", COMPLETE)
def test_workers_are_static_members(overlay: str) -> None:
    """Each pod's own name is its member's."""
    (name,) = [item for item in container(overlay, "consumer")["env"] if item["name"] == "CONSUMER_GROUP_INSTANCE_ID"]

    assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_workers_follow_the_lag_within_the_partitions() -> None:
    """KEDA asks for the group, the topic and the brokers of the settings; a worker more for each full batch behind."""
    loaded = consumer.settings.load(environment("overlays/production", "consumer"))
    spec = find("overlays/production", "ScaledObject", "consumer")["spec"]
    (trigger,) = spec["triggers"]
    partitions = re.search(r"--topic events --partitions (\d+)", part("topics")["command"][-1])

    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "consumer"}
    assert trigger["type"] == "kafka"
    asked = trigger["metadata"]
    assert (asked["bootstrapServers"], asked["consumerGroup"], asked["topic"]) == (
        loaded.bootstrap_servers,
        loaded.group_id,
        loaded.topic,
    )
    assert int(asked["lagThreshold"]) == loaded.batch_rows_max
    assert asked["allowIdleConsumers"] == "false"
    assert partitions is not None
    assert spec["minReplicaCount"] < spec["maxReplicaCount"] == int(partitions[1])
    assert find("overlays/production", "TriggerAuthentication", trigger["authenticationRef"]["name"])
    for name in ("ingest", "consumer"):
        assert "replicas" not in find("overlays/production", "StatefulSet", name)["spec"]  # the scalers decide


def test_the_ingress_follows_its_processor() -> None:
    """Up at once, down slowly: a pod that goes leaves a volume."""
    spec = find("overlays/production", "HorizontalPodAutoscaler", "ingest")["spec"]

    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "ingest"}
    assert 2 < spec["minReplicas"] < spec["maxReplicas"]
    assert (
        spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
        > spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"]
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_budget_never_lets_all_pods_go(overlay: str) -> None:
    """One at a time, of each service that has several."""
    budgets = {
        item["metadata"]["name"]: item["spec"] for item in rendered(overlay) if item["kind"] == "PodDisruptionBudget"
    }

    assert {name: spec["maxUnavailable"] for name, spec in budgets.items()} == {"ingest": 1, "consumer": 1}


def test_images_and_the_canary_are_those_of_the_project() -> None:
    """The version of pyproject.toml, one canary, and the documents name its client."""
    images = {container("base", workload)["image"] for workload, _ in workloads("base")}

    assert images == {f"headrace/{service}:{version()}" for service in ("ingest", "consumer")}
    assert find("base", "Deployment", "canary")["spec"]["replicas"] == 1
    assert CLIENT_ID in (ROOT / "docs/KUBERNETES.md").read_text("utf-8")
    assert compose_file()["services"]["canary"]["command"] == container("base", "canary")["args"]


def test_every_secret_is_in_the_document() -> None:
    """Who applies an overlay finds what to make first."""
    text = (ROOT / "docs/KUBERNETES.md").read_text("utf-8")
    for overlay in COMPLETE:
        for _, spec in workloads(overlay):
            for volume in spec["volumes"]:
                name = volume.get("secret", {}).get("secretName") or volume.get("configMap", {}).get("name")
                if name:
                    assert f"`{name}`" in text
                    for item in volume.get("secret", {}).get("items", ()):
                        assert f"`{item['key']}`" in text


def test_the_page_says_what_tracing_lacks_here() -> None:
    """No lock of an image has OpenTelemetry, and no policy lets a pod reach an exporter's usual ports."""
    locks = [path.read_text("utf-8") for path in (ROOT / "deploy/locks").iterdir()]
    policies = [item for item in rendered("base") if item["kind"] == "NetworkPolicy"]
    ports = {port["port"] for item in policies for rule in item["spec"].get("egress", []) for port in rule["ports"]}
    _, _, text = (ROOT / "docs/KUBERNETES.md").read_text("utf-8").partition("## Tracing\n")

    assert locks
    assert not [lock for lock in locks if "opentelemetry" in lock]
    assert not ports & {4317, 4318}
    assert "no OpenTelemetry" in text
    assert "`egress`" in text


def test_no_page_advises_a_sampler_that_browsers_decide_for() -> None:
    """A `traceparent` of a request must not be able to demand a span each time."""
    pages = [path.read_text("utf-8") for path in (ROOT / "docs").glob("**/*.md")]
    advised = [name for page in pages for name in re.findall(r"OTEL_TRACES_SAMPLER=(\w+)", page)]

    assert advised
    assert not [name for name in advised if name.startswith("parentbased")]
