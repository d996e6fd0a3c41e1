"""What other programs' parsers say of cllm's text formats: Prometheus' and OpenMetrics' of /metrics, three clients' of event streams."""

import json
import os
import urllib.request

import httpx
import httpx_sse
import sseclient
from openai._streaming import SSEDecoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

URL = os.environ["CLLM_URL"]
TURNS = [{"role": "user", "content": "Tell me a story, with ä, 猫 and \N{GRINNING FACE}."}]
STREAMS = {
    "/generate": {"messages": TURNS, "stream": True, "max_tokens": 60},
    "/generate_stream": {"messages": TURNS, "max_tokens": 60},
    "/v1/chat/completions": {"messages": TURNS, "stream": True, "max_tokens": 60, "stream_options": {"include_usage": True}},
    "/v1/completions": {"prompt": "Once", "stream": True, "max_tokens": 60, "logprobs": 2},
    "/v1/responses": {"input": TURNS, "stream": True, "max_output_tokens": 60},
    "/v1/messages": {"messages": TURNS, "stream": True, "max_tokens": 60},
    "/completion": {"prompt": "Once", "stream": True, "n_predict": 60, "n_probs": 2},
}


def metrics():
    """Both parsers find the same families with the same numbers of samples, none of them without a type."""
    found = []
    for accept, parse in [("*/*", prometheus), ("application/openmetrics-text; version=1.0.0", open_metrics)]:
        answer = urllib.request.urlopen(urllib.request.Request(URL + "/metrics", headers={"Accept": accept}))
        families = list(parse(answer.read().decode()))
        assert all(family.type not in ("unknown", "untyped") for family in families), families
        found.append({family.name: sorted(sample.name for sample in family.samples) for family in families})
        kind = answer.headers["Content-Type"]
        assert kind.startswith("application/openmetrics-text" if parse is open_metrics else "text/plain"), kind
    assert found[0] == found[1] and len(found[0]) > 30, found
    print(f"metrics: {len(found[0])} families, for Prometheus' parser and for OpenMetrics'")


def events(body):
    """What three parsers make of a stream: names and data of its events."""

    def of_httpx():
        response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=httpx.ByteStream(body))
        return [(event.event, event.data) for event in httpx_sse.EventSource(response).iter_sse()]

    def of_sseclient():
        return [(event.event, event.data) for event in sseclient.SSEClient(pieces(body)).events()]

    def of_openai():
        return [(event.event or "message", event.data) for event in SSEDecoder().iter_bytes(pieces(body))]

    return [of_httpx(), of_sseclient(), of_openai()]


def pieces(body):
    """The body cut where no event ends."""
    for at in range(0, len(body), 7):
        yield body[at : at + 7]


def streams():
    """Each stream gives three parsers equal events, whose data is JSON but for a last word."""
    for path, request in STREAMS.items():
        with httpx.stream("POST", URL + path, json=request, timeout=60) as answer:
            assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/event-stream"), answer
            body = b"".join(answer.iter_bytes())
        first, *others = events(body)
        assert len(first) > 3 and all(other == first for other in others), (path, first, others)
        assert not any(name == "error" for name, _ in first), (path, first)
        for _, data in first:
            assert data == "[DONE]" or isinstance(json.loads(data), dict), (path, data)
        print(f"{path}: {len(first)} events, the same for httpx-sse, sseclient and openai")


metrics()
streams()
