"""That the pieces of a manifest fit each other and the program: manifests.py MANIFEST PROGRAM."""

import subprocess
import sys

import yaml

with open(sys.argv[1]) as text:
    manifest = {document["kind"]: document["spec"] for document in yaml.safe_load_all(text)}
deployment, service = manifest["Deployment"], manifest["Service"]
pod = deployment["template"]["spec"]
(container,) = pod["containers"]
labels = deployment["template"]["metadata"]["labels"]
assert deployment["selector"]["matchLabels"] == labels == service["selector"]
assert manifest["PodDisruptionBudget"]["selector"]["matchLabels"] == labels
assert manifest["HorizontalPodAutoscaler"]["scaleTargetRef"]["kind"] == "Deployment"
(metric,) = manifest["HorizontalPodAutoscaler"]["metrics"]
assert metric["pods"]["metric"]["name"] == "vllm:num_requests_waiting".replace(":", "_")

names = {port["name"] for port in container["ports"]}
probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
assert {name: probe["path"] for name, probe in probes.items()} == {
    "startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/health"}
assert all(probe["port"] in names for probe in probes.values()) and service["ports"][0]["targetPort"] in names

# A drain is over before the pod is killed.
grace_ms = int(next(arg for arg in container["args"] if arg.startswith("--grace-ms=")).split("=")[1])
assert pod["terminationGracePeriodSeconds"] > container["lifecycle"]["preStop"]["sleep"]["seconds"] + grace_ms / 1000
assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsNonRoot"]
mounted = {mount["name"] for mount in container["volumeMounts"]}
assert mounted == {volume["name"] for volume in pod["volumes"]}

# The program knows these flags. The model and the keys are not here.
flags = [arg for arg in container["args"] if not arg.startswith(("--model=", "--api-key-file="))]
shown = subprocess.run([sys.argv[2], "serve", "--check", *flags], check=True, capture_output=True, text=True).stdout
assert "metrics-key" in shown and "40000" in shown, shown
events = next(arg for arg in container["args"] if arg.startswith("--kv-events="))
assert {"name": "kv-events", "containerPort": int(events.rsplit(":", 1)[1])} in container["ports"], events
print(f"manifests: {', '.join(manifest)} fit the schemas, each other and the program")
