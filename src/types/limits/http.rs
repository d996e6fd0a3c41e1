//! Bounds of requests and their answers: bodies, fields, streams, keys, records of steps, KV events.

/// Microseconds between two writes of a stream whose pieces come faster than that. A reader can't see so short a wait:
/// a screen shows a picture every 16 ms. Over the null decoder one write then carries about 50 pieces.
pub const STREAM_REST_US: u64 = 1_000;

/// Milliseconds after which the head of a streamed answer is sent although there is no event yet. An answer whose first
/// event comes sooner sends head and event in one write, and a request that fails sooner still gets its true status.
pub const STREAM_HEAD_MS: u64 = 250;

/// Milliseconds of silence after which a stream sends a comment or ping that shows it is alive, unless
/// `--stream-ping-ms` sets another interval. Proxies close a connection that is silent for 15 to 60 s.
pub const STREAM_PING_MS: u64 = 10_000;

/// How often a stream's thread polls for the first piece before it sleeps. It yields the core after each poll: two
/// microseconds in all where no other thread is ready to run.
pub const STREAM_LOOKS_MAX: u32 = 4;

/// Microseconds for which a stream keeps polling before its first write, as long as each poll finds more pieces.
pub const STREAM_LOOK_ON_US: u64 = 100;

/// Bytes of a request body. DESIGN section 5.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// File descriptors that a server needs besides its connections: 128 for clients that are told that there is no room,
/// and 64 for the listener, the poller, the standard streams, the model and a margin.
pub const DESCRIPTORS_SPARE: usize = 128 + 64;

/// Most stop strings of one request.
pub const STOPS_MAX: usize = 64;
/// Longest stop string, in bytes. The part of a stream that is held back, because a stop string may begin in it, is at
/// most `STOP_BYTES_MAX - 1` bytes.
pub const STOP_BYTES_MAX: usize = 1_024;

/// Most paths in `response_fields`. An answer has about 40 fields.
pub const RESPONSE_FIELDS_MAX: usize = 256;

/// Most files in `input_extra`. Editors send about 16, and more would not fit the context.
pub const INFILL_FILES_MAX: usize = 1_024;

/// Most entries of `stop_token_ids`. Each generated token is compared with each entry.
pub const STOP_TOKENS_MAX: usize = 256;

/// End-of-generation tokens of a vocabulary that `min_tokens` keeps back. Real ones have fewer than ten.
pub const EOG_TOKENS_MAX: usize = 64;

/// Most entries of `logit_bias`.
pub const LOGIT_BIAS_MAX: usize = 1_024;

/// Most generations of one `POST /benchmark`: a million tokens at 50 each, ten minutes for a small model.
pub const BENCHMARK_REQUESTS_MAX: usize = 20_000;
/// Most prompts of one `POST /benchmark`. Its generations use them in turn.
pub const BENCHMARK_PROMPTS_MAX: usize = 1_000;

/// Steps that a server with `--trace` keeps: 64 bytes each, 1 MiB. The null decoder makes a few thousand in the 10 ms
/// between two reads of them.
pub const TRACE_STEPS_KEPT: usize = 16_384;

/// Most steps of one timeline: about 640 bytes of JSON each, 20 MiB. That is a minute of a model that makes 500 steps a
/// second.
pub const TRACE_STEPS_MAX: usize = 32_768;

/// Most steps that `cllm profile` keeps of one batching thread: 72 bytes each in memory, 9 MiB, and 80 MiB of JSON.
pub const PROFILE_STEPS_MAX: usize = 131_072;

/// Most seconds that one `GET /debug/trace` records.
pub const TRACE_SECONDS_MAX: f64 = 60.0;

/// Most tokens of a request's `prediction`; what is beyond is dropped. A body of 8 MiB can hold two million.
pub const PREDICTION_TOKENS_MAX: usize = 32_768;

/// Most inputs of one request for embeddings, which is OpenAI's bound: 2,048 x 1,024 numbers of 4 bytes = 8 MiB of
/// answer.
pub const EMBED_INPUTS_MAX: usize = 2_048;

/// Longest API key, in bytes. The longest in use, apart from JSON web tokens, have about 170.
pub const API_KEY_BYTES_MAX: usize = 256;

/// Most models that one line of a key file may name.
pub const KEY_MODELS_MAX: usize = 64;
/// Longest name of a model in a key file, in bytes. A file's name may have 255.
pub const MODEL_NAME_BYTES_MAX: usize = 255;

/// Tokens of a block of the KV cache in KV events and in `vllm:cache_config_info`: vLLM's usual size.
pub const KV_BLOCK_TOKENS: usize = 16;
/// Largest `--kv-block-size`, in tokens.
pub const KV_BLOCK_TOKENS_MAX: usize = 4_096;

/// Most changes of sequences' blocks that wait for the publishing thread: 40 bytes each and the tokens of their blocks.
/// Beyond it, several changes of a sequence are sent later as one.
pub const KV_BLOCK_CHANGES_MAX: usize = 4_096;

/// Most seconds that `GET /debug/kv-blocks` waits for the batching thread, which answers between two steps.
pub const KV_BLOCKS_WAIT_S_MAX: u64 = 60;

/// Most blocks of one KV event.
pub const KV_EVENT_BLOCKS_MAX: usize = 1_024;
/// Most blocks of one message of KV events, unless its single event has more: at 16 tokens of 3 bytes a block, a
/// message has about 60 KiB.
pub const KV_MESSAGE_BLOCKS_MAX: usize = 1_024;

/// Messages of KV events that are kept for subscribers that missed some, as many as vLLM keeps.
pub const KV_EVENTS_KEPT_MAX: usize = 10_000;
/// Most bytes of these kept messages.
pub const KV_EVENTS_KEPT_BYTES_MAX: usize = 32 << 20;

/// Most connections to the socket of KV events.
pub const KV_EVENTS_PEERS_MAX: usize = 64;
/// Most bytes that wait for one of these connections before messages to it are dropped: a thousand blocks a second for
/// two minutes.
pub const KV_EVENTS_QUEUE_BYTES_MAX: usize = 8 << 20;

/// Most seconds between a connection to this socket and the end of its ZMTP handshake.
pub const KV_EVENTS_HANDSHAKE_S_MAX: u64 = 10;

/// Most bytes of a frame that a subscriber sends: its properties, a topic or a number.
pub const ZMTP_FRAME_BYTES_MAX: usize = 4_096;
/// Most frames of one message that a subscriber sends.
pub const ZMTP_FRAMES_MAX: usize = 8;
/// Most topics to which one connection may subscribe.
pub const ZMTP_TOPICS_MAX: usize = 64;

/// Most keys of a key file. Each key's name is a label in `/metrics`, where it takes about 1 KiB.
pub const API_KEYS_MAX: usize = 1_000;
/// Longest name of a key, in bytes.
pub const KEY_NAME_BYTES_MAX: usize = 64;

/// HTTP threads beyond one for each running or waiting request. They answer `/health`, `/metrics` and 429 while the others
/// wait.
pub const HTTP_THREADS_SPARE: usize = 4;
/// Most threads of the HTTP pool: 256 slots, 4 waiting requests for each, and the spare threads, rounded up.
pub const HTTP_THREADS_MAX: usize = 2_048;

/// Longest deadline, longest grace period and longest interval between pings of a stream, in milliseconds: a day.
pub const DEADLINE_MS_MAX: u64 = 86_400_000;

/// Largest `top_k`: more than any vocabulary has tokens, so that it keeps all. The setting refuses more, a request's larger number
/// counts as this.
pub const TOP_K_MAX: usize = 1 << 24;

/// Largest magnitude of a sampling parameter that is clamped, so that products with it stay finite.
pub const PARAMETER_MAX: f32 = 1e6;
/// Largest number of tokens that a sampling parameter may name: more than any context has.
pub const PARAMETER_COUNT_MAX: i64 = u32::MAX as i64;

/// Most alternatives to the chosen token for which a request may ask the log probability: OpenAI's bound.
pub const TOP_LOGPROBS_MAX: usize = 20;

/// Most answers that a request may ask for with one input. Each runs in a slot of its own.
pub const CHOICES_MAX: u64 = 16;

/// Longest value of `X-Cllm-Warning`, in bytes: a few sentences, and far less than clients accept.
pub const WARNING_BYTES_MAX: usize = 1_000;

/// Longest name that a client may give its request, in bytes. A UUID has 36.
pub const REQUEST_NAME_BYTES_MAX: usize = 128;

/// Seconds for which a browser may cache the answer to a preflight request. Chrome keeps it for two hours at most.
pub const PREFLIGHT_AGE_S_MAX: u32 = 600;

/// Most API keys of one request that are checked, because each must be hashed.
pub const KEYS_PRESENTED_MAX: usize = 16;

/// Most tool calls of one turn of a chat.
pub const TURN_CALLS_MAX: usize = 128;

/// Milliseconds between two checks of a stream that reports the progress of its prompt.
pub const PROGRESS_MS: u64 = 100;

/// Most bytes of the buffer of events that an HTTP thread keeps from one request to the next. An event of the native route takes
/// about 60 bytes.
pub const EVENTS_KEPT_BYTES_MAX: usize = 16 << 10;
/// Most pieces (8 bytes each), and most bytes of text, that an HTTP thread keeps room for from one request to the next.
pub const CHOICE_KEPT_MAX: usize = 4_096;

/// Milliseconds between two checks of a generation of `POST /benchmark` whether its client is still connected.
pub const BENCHMARK_LOOK_MS: u64 = 100;

/// Milliseconds between two checks of a prefill of `--warm` whether the server shall stop.
pub const WARM_LOOK_MS: u64 = 50;

/// Milliseconds between two reads of the steps that a server with `--trace` keeps (`TRACE_STEPS_KEPT`).
pub const TRACE_LOOK_MS: u64 = 10;

/// Microseconds without a round of the batching thread's loop after which the server counts as stalled. The loop runs ten times
/// a second even without work, and no chunk of a prompt takes this long.
pub const STALLED_US_MIN: u64 = 60_000_000;

/// Milliseconds between two checks of `GET /debug/kv-blocks` whether the batching thread has answered.
pub const KV_BLOCKS_LOOK_MS: u64 = 2;

/// Milliseconds between two rounds of the thread of KV events while nothing changes.
pub const KV_EVENTS_IDLE_MS: u64 = 100;
/// Milliseconds between two of its rounds while there is work. An event is this old at most when it is sent.
pub const KV_EVENTS_LOOK_MS: u64 = 20;

/// Bytes requested in one read of a connection to the socket of KV events.
pub const KV_EVENTS_READ_BYTES: usize = 4_096;
