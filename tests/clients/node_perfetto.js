// Runs Perfetto's trace processor on the requests at stdin and writes its replies to stdout, both as TraceProcessorRpcStream:
// `node node_perfetto.js FOLDER`. FOLDER has engine_bundle.js, a worker of Perfetto's page, and the WebAssembly that it loads.
import { readFileSync, writeSync } from "node:fs";
import vm from "node:vm";

const folder = process.argv[2];

// What a worker finds around it.
class XMLHttpRequest {
  open(_method, name) {
    this.name = name.split("/").pop();
  }
  send() {
    this.response = readFileSync(`${folder}/${this.name}`);
  }
}
const worker = {
  WorkerGlobalScope: Object, XMLHttpRequest, TextDecoder, TextEncoder, URL, performance, setTimeout,
  console: { log() {}, warn() {}, error: console.error },
  location: { href: "http://localhost/engine_bundle.js" },
};
worker.self = worker;
vm.runInNewContext(readFileSync(`${folder}/engine_bundle.js`, "utf8"), worker, { filename: "engine_bundle.js" });

const port = { postMessage: (reply) => writeSync(1, reply) };
worker.onmessage({ data: port });
// The WebAssembly is set up in a callback behind the bundle's own.
setTimeout(() => {
  // The bundle compares with its context's own kind of array.
  const requests = vm.runInContext("Uint8Array", worker).from(readFileSync(0));
  port.onmessage({ data: requests });
}, 0);
