"""judge.py FOLDER READER CLLM: plays requests from the tests of gunicorn and llhttp, whose archives lie in FOLDER, to vendor/tiny_http
(READER, its example `read`, which tells how it read each request) and to `cllm serve`.

A case is bytes, the requests that the other parser reads in them, and whether it then finds an error. Behind the bytes follows a request
of our own, the probe. The server may refuse any case, and closes then; what it serves before must be what the other parser reads, and the
probe must be served if all of the case was, and never otherwise. So no byte is read as a part of two requests, or of another than it is.
A valid case that is refused stands in STRICTER with its reason, an invalid one that is served in WIDER: neither list may have more.
"""

import ast
import re
import socket
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field

PROBE = b"GET /health?probe HTTP/1.1\r\nHost: probe\r\nX-Request-Id: probe\r\nConnection: close\r\n\r\n"


@dataclass
class Case:
    name: str
    data: bytes
    # (method, target, body) of each request that the other parser reads to its end.
    reads: list = field(default_factory=list)
    # The other parser finds an error behind them.
    is_invalid: bool = False
    # A request that isn't complete stands behind them.
    is_cut: bool = False
    # The other parser stops behind a request for another protocol; a server that has none goes on.
    upgrades: bool = False


CODINGS = "another transfer coding than chunked alone, which no client of this server sends"
TWO_FRAMINGS = "what says in two ways where the body ends"
FOLDED = "folded fields, which RFC 9112 (5.2) has servers refuse"
PROXY = "the PROXY protocol, which is spoken before HTTP and only where it is switched on"
PROTOCOL = "another protocol than HTTP"
TUNNEL = "CONNECT, which is for proxies"
# Valid cases that are refused here: what each has, for which it is.
STRICTER = {
    "gunicorn valid/009": TWO_FRAMINGS,
    "gunicorn valid/024": "a body over HTTP/1.0 without a length",
    "gunicorn valid/025": CODINGS,
    "gunicorn valid/025_line": CODINGS,
    "gunicorn valid/027": "a target of other bytes than ASCII",
    "gunicorn valid/028": "a blank before a field's colon, which RFC 9112 (5.1) has servers refuse",
    "gunicorn valid/029": TWO_FRAMINGS,
    "gunicorn valid/030": TWO_FRAMINGS,
    "gunicorn valid/099": "a body shorter than its Content-Length",
    "gunicorn valid/compat_obs_fold": FOLDED,
    "gunicorn valid/compat_obs_fold_huge": FOLDED,
    "gunicorn valid/pp_01": PROXY,
    "gunicorn valid/pp_02": PROXY,
    "llhttp method 5": "a target of * with another method than OPTIONS",
    "llhttp method 12": PROTOCOL,
    "llhttp method 13": PROTOCOL,
    "llhttp method 14": PROTOCOL,
    "llhttp method 2": TUNNEL,
    "llhttp method 3": TUNNEL,
    "llhttp method 4": TUNNEL,
    "llhttp sample 10": "HTTP/0.9",
    "llhttp transfer-encoding 17": CODINGS,
    "llhttp transfer-encoding 18": CODINGS,
    "llhttp uri 9": TUNNEL,
}
LIMITS = "limits of size or number, which this test of gunicorn's sets lower"
METHODS = "a method that the other parser doesn't know; RFC 9110 (9.1) has it be any token"
UNDERSCORES = "a name with an underscore, which is another field than the one with a dash; gunicorn's test has it refuse them"
# Invalid cases that are served here: what is read of each, and what it has that the other parser refuses.
WIDER = {
    "gunicorn invalid/003c": ([("-bl", "/foo", b"")], METHODS),
    "gunicorn invalid/007": ([("PUT", "/stuff/here?foo=bar", b'{"nom": "nom"}')], LIMITS),
    "gunicorn invalid/010": ([("GET", "/test", b"")], LIMITS),
    "gunicorn invalid/011": ([("GET", "/test", b"")], LIMITS),
    "gunicorn invalid/012": ([("GET", "/test", b"")], LIMITS),
    "gunicorn invalid/017": ([("GET", "/test", b"")], LIMITS),
    "gunicorn invalid/019": ([("GET", "/test", b"")], "fields of a proxy's that contradict each other; they aren't read here"),
    "gunicorn invalid/040": ([("GET", "/keep/same/as?invalid/040", b"tricked")], UNDERSCORES),
    "gunicorn invalid/chunked_07": ([("POST", "/chunked_ambiguous_header_mapping", b"hello world")], UNDERSCORES),
    "llhttp invalid 4": ([("ANNOUNCE", "/music/sweet/music", b"")], METHODS),
    "llhttp invalid 13": ([("MKCOLA", "/", b"")], METHODS),
}


def gunicorn(archive):
    """requests/valid and requests/invalid: the bytes, and beside them Python that says what they are, which is read and never run."""
    with tarfile.open(archive) as files:
        texts = {name.split("/tests/requests/")[1]: files.extractfile(name).read() for name in files.getnames() if re.search(r"/tests/requests/(in)?valid/.*\.(http|py)$", name)}
    for name in sorted(name for name in texts if name.endswith(".http")):
        data = texts[name].replace(b"\n", b"")
        for written, byte in [(b"\\r\\n", b"\r\n"), (b"\\0", b"\0"), (b"\\n", b"\n"), (b"\\t", b"\t")]:
            data = data.replace(written, byte)
        tree = ast.parse(texts[name.removesuffix("http") + "py"])
        names = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
        case = Case("gunicorn " + name.removesuffix(".http"), data)
        if name.startswith("invalid/"):
            case.is_invalid = True
        else:
            said = names["request"]
            for one in said.elts if isinstance(said, ast.List) else [said]:
                if isinstance(one, ast.Name):
                    one = names[one.id]
                one = {key.value: value for key, value in zip(one.keys, one.values)}
                target = ast.literal_eval(one["uri"].args[0])
                case.reads.append((ast.literal_eval(one["method"]), target, bytes_of(one["body"])))
        yield case


def bytes_of(node):
    """A text or bytes, and what `text.replace(old, new)` and `text.encode()` make of one."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        value = bytes_of(node.func.value)
        return value.replace(*map(bytes_of, node.args)) if node.func.attr == "replace" else value
    value = ast.literal_eval(node)
    return value.encode() if isinstance(value, str) else value


def llhttp(archive):
    """test/request/*.md: a block `http`, and a block `log` with what the parser tells of it. Its lenient modes are left out."""
    with tarfile.open(archive) as files:
        for member in sorted(name for name in files.getnames() if re.search(r"/llhttp/test/request/[^/]*\.md$", name)):
            text = files.extractfile(member).read().decode()
            kind = r'<!-- meta=\{\s*"type":\s*"request(?:-finish)?"\s*(?:,\s*"noScan": true)?\s*\} -->'
            blocks = re.findall(kind + r"\n```http\n((?:(?!```).)*)```\n(?:_[^\n]*_\n)?\n```log\n(.*?)```", text, re.S)
            for number, (http, log) in enumerate(blocks, 1):
                yield of_llhttp(f"llhttp {member.rsplit('/', 1)[1].removesuffix('.md')} {number}", http, log)


def of_llhttp(name, http, log):
    text = http.removesuffix("\n")
    text = re.sub(r"\\\n", "", text).replace("\n", "\r\n")
    for written, byte in [("\\r", "\r"), ("\\n", "\n"), ("\\t", "\t"), ("\\f", "\f")]:
        text = text.replace(written, byte)
    text = re.sub(r"\\x([0-9a-fA-F]+)", lambda found: chr(int(found[1], 16)), text)
    text = re.sub(r"\\([0-7]{1,3})", lambda found: chr(int(found[1], 8)), text)
    # A text repeated is written as JavaScript.
    text = re.sub(r"\$\{'(.*?)'\.repeat\((\d+)\)\}", lambda found: found[1] * int(found[2]), text)
    data = text.encode()
    case, spans, is_open = Case(name, data), {}, False
    for line in log.splitlines():
        if "message begin" in line:
            spans, is_open = {}, True
        elif found := re.match(r"off=(\d+) len=(\d+) span\[(\w+)\]", line):
            at, length = int(found[1]), int(found[2])
            spans[found[3]] = spans.get(found[3], b"") + data[at : at + length]
        elif "message complete" in line:
            is_open = False
            case.reads.append((spans.get("method", b"").decode(), spans.get("url", b"").decode(), spans.get("body", b"")))
        elif "error code=22" in line:
            case.upgrades = True
        elif "error code=" in line:
            case.is_invalid = True
    case.is_cut = is_open and not case.is_invalid
    return case


def with_host(case):
    """The same with a Host in each request, without which all of HTTP/1.1 would be refused for that; `None`: there is one."""

    def named(found):
        head = case.data[found.end() :].split(b"\r\n\r\n")[0]
        return found[0] if re.search(rb"(^|\n)host\s*:", head, re.I) else found[0] + b"Host: case\r\n"

    # What looks like a second request may be a body.
    start = rb"(?:\A|(?<=\r\n\r\n))" if len(case.reads) > 1 else rb"\A"
    changed = re.sub(start + rb"(?:\r\n)?[!-~]+ [^\r\n]+ HTTP/1\.1\r\n", named, case.data)
    return None if changed == case.data else changed


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def is_probe(self):
        is_get = self.headers.get("x-method", "GET") == "GET"
        return self.status == 200 and is_get and (self.headers.get("x-url") == "/health?probe" or self.headers.get("x-request-id") == "probe")


def play(port, data, heads=()):
    """All answers to these bytes, behind which the client sends nothing more. `heads`: the answers that are to HEAD, which have no body."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # It has refused already.
        text = b""
        try:
            while more := client.recv(65536):
                text += more
        except ConnectionResetError:
            pass  # It closed before it had read all.
    answers = []
    while text:
        head, _, text = text.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        status = int(status.split(" ")[1])
        if status == 100:
            continue
        length = 0 if headers.get("x-method") == "HEAD" or len(answers) in heads else int(headers.get("content-length", 0))
        answers.append(Answer(status, headers, text[:length]))
        text = text[length:]
    return answers


def judge(case, answers):
    """What is wrong, or nothing; and whether the case was served whole."""
    reads = [(answer.headers["x-method"], answer.headers["x-url"], answer.body) for answer in answers if "x-url" in answer.headers]
    refusals = [answer for answer in answers if "x-url" not in answer.headers]
    has_probe = bool(reads) and reads[-1][:2] == ("GET", "/health?probe")
    served = reads[:-1] if has_probe else reads
    if any("x-url" not in answer.headers for answer in answers[:-1]):
        return "something was answered behind a refusal", False
    if any(answer.status < 400 or answer.headers.get("connection") != "close" for answer in refusals):
        return f"no refusal: {refusals}", False
    # Some parsers change the case of methods.
    wanted = [(method.lower(), target, body) for method, target, body in case.reads]
    served = [(method.lower(), target, body) for method, target, body in served]
    whole = served == wanted and not refusals
    if case.upgrades:
        return (None if served[: len(wanted)] == wanted[: len(served)] else f"served {served}, and not {wanted}"), bool(served)
    if served != wanted[: len(served)]:
        return f"served {served}, and not {wanted}", whole
    if has_probe and (case.is_invalid or case.is_cut or not whole):
        return f"the probe was served behind {served}", whole
    return None, whole


def closes(case):
    """Whether a request of a valid case ends the connection, so that the probe isn't served."""
    is_old = re.match(rb"[^\r\n]* HTTP/1\.0\r\n", case.data) and not re.search(rb"\r\nconnection:[^\r\n]*keep-alive", case.data, re.I)
    return bool(is_old or re.search(rb"\r\nconnection:[^\r\n]*close", case.data, re.I))


def started(command, pattern, stream):
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, **{stream: subprocess.PIPE})
    for line in getattr(server, stream):
        if found := re.search(pattern, line):
            return server, int(found[1])
    raise SystemExit(f"{command[0]} does not listen")


def main():
    folder, reader, cllm = sys.argv[1:]
    cases = [*gunicorn(f"{folder}/gunicorn-23.0.0.tar.gz"), *llhttp(f"{folder}/aiohttp-3.14.5.tar.gz")]
    reader, port = started([reader], r":(\d+)", "stdout")
    cllm, cllm_port = started([cllm, "serve", "--port", "0"], r"http://[\d.]*:(\d+)", "stderr")
    faults, stricter, wider, counts = [], set(), set(), {"served": 0, "refused": 0}
    try:
        for case in cases:
            served = False
            if case.name in WIDER:
                case.reads, case.is_invalid = WIDER[case.name][0], False
            # Behind half a request the probe would be the rest of it.
            probe = b"" if case.is_cut else PROBE
            for data in filter(None, [case.data, with_host(case)]):
                answers = play(port, data + probe)
                wrong, whole = judge(case, answers)
                # A connection may end before what is wrong.
                if case.is_invalid and not wrong and not (answers and answers[-1].headers.get("connection") == "close"):
                    wrong = f"not refused: {answers}"
                elif probe and whole and not case.upgrades and not closes(case) and not answers[-1].is_probe:
                    wrong = "the probe behind it was not served"
                served = served or whole
                if wrong:
                    faults.append(f"{case.name}: {wrong}\n    {data[:400]}")
                heads = [i for i, answer in enumerate(answers) if answer.headers.get("x-method") == "HEAD"]
                ours = play(cllm_port, data + probe, heads)
                if (len(ours), bool(ours) and ours[-1].is_probe) != (len(answers), bool(answers) and answers[-1].is_probe):
                    faults.append(f"{case.name}: cllm answers otherwise than tiny_http: {ours}, {answers}\n    {data[:400]}")
                named = [answer for answer in ours if answer.status >= 400 and answer.headers.get("x-request-id") == "probe"]
                if named and b"\r\n\r\n" in data and not case.upgrades:
                    faults.append(f"{case.name}: a refusal has the name of the request behind it: {named}\n    {data[:400]}")
            counts["served" if served else "refused"] += 1
            if case.name in WIDER and served:
                wider.add(case.name)
            elif not served and not case.is_invalid and not case.is_cut:
                stricter.add(case.name)
    finally:
        for server in (reader, cllm):
            server.kill()
            server.wait()
    faults += [f"{name}: refused, though valid" for name in sorted(stricter - STRICTER.keys())]
    faults += [f"{name}: stands in STRICTER, and is served" for name in sorted(STRICTER.keys() - stricter)]
    faults += [f"{name}: stands in WIDER, and is refused" for name in sorted(WIDER.keys() - wider)]
    invalid = sum(case.is_invalid for case in cases) + len(WIDER)
    print(f"{len(cases)} cases, {invalid} of them invalid: {counts['served']} served, {counts['refused']} refused; {len(stricter)} valid ones refused and {len(wider)} invalid ones served, each for a reason")
    print("\n".join(faults))
    sys.exit(bool(faults))


main()
