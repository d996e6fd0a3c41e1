//! Every bound in one place, with its unit and the arithmetic behind it.

/// Sequences in the KV cache; llama.cpp's own ceiling is 256 (`LLAMA_MAX_SEQ`).
pub const SLOTS_MAX: usize = 256;

/// Requests that may wait in the submission ring for each slot before new ones get 429. The ring has at least
/// `QUEUE_MIN` places.
pub const QUEUE_PER_SLOT: usize = 4;
/// Least capacity of the submission ring, in requests. A usual burst (40 requests at once, or 100 prompts in one
/// completion) is queued also on a server with few slots.
pub const QUEUE_MIN: usize = 100;

/// Tokens a reply slot holds before its reader must take some: 4,096 x 8 bytes = 32 KiB a request.
/// Most replies fit whole, so that a non-streaming reader wakes once.
pub const REPLY_PIECES_MAX: usize = 4_096;

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

/// Most strings of `dry_sequence_breakers`. Each is searched for in the text of each token of the vocabulary.
pub const DRY_BREAKERS_MAX: usize = 32;
/// Bytes of one string of `dry_sequence_breakers` that count; llama.cpp also cuts longer strings there.
pub const DRY_BREAKER_BYTES_MAX: usize = 40;

/// Tokens that count of what follows a breaker's first token, as in llama.cpp.
pub const DRY_TAIL_MAX: usize = 20;

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

/// Least number of tokens of a common beginning for which cells are copied to another sequence. A copy moves a whole
/// sequence's buffer (10 ms for 512 tokens of a 0.6B model), which takes as long as decoding one or two tokens.
pub const PREFIX_COPY_MIN: usize = 16;

/// Least number of tokens of a common beginning, not in the cache yet, for which a request waits until another request
/// has prefilled them.
pub const PREFIX_WAIT_MIN: usize = 32;

/// Tokens of a block in which KV state is kept outside the cells. A block is moved between two steps: 7 MiB of the
/// Qwen3-0.6B shape, some milliseconds, where a decode step takes 57. On average half a block of a common beginning is
/// decoded again; blocks of twice the size would double both costs. Each sliding window that a model has is at least as
/// long.
pub const PROMPT_BLOCK_TOKENS: usize = 64;

/// Microseconds for which blocks are copied into cells while no request waits for the batching thread. Then the engine
/// looks for new requests.
pub const RESTORE_IDLE_US: u64 = 20_000;
/// Microseconds for which blocks are saved while no request waits for the batching thread. Then the engine looks for
/// new requests.
pub const SAVE_IDLE_US: u64 = 10_000;

/// Saving takes at most one part in this many of a step that serves other requests, or one block: 3 ms for the
/// Qwen3-0.6B shape beside a step of 57 ms.
pub const SAVE_STEP_PARTS: u64 = 8;

/// Most blocks whose names are computed between two steps in the search for one that must be saved: 1 us each.
pub const SAVE_NAMES_MAX: usize = 32;

/// Most microseconds that saving may take when the server ends. A disk writes some GB in that time.
pub const SAVE_AT_END_US_MAX: u64 = 5_000_000;

/// Least microseconds that a request waits for a block from the disk before its prompt is prefilled instead. Between
/// this bound and `RESTORE_WAIT_US_MAX` it waits as long as the prefill would take.
pub const RESTORE_WAIT_US_MIN: u64 = 100_000;
/// Most microseconds that a request waits for a block from the disk. See `RESTORE_WAIT_US_MIN`.
pub const RESTORE_WAIT_US_MAX: u64 = 5_000_000;

/// Tokens from one checkpoint of a sequence to the next, for caches that can't be cut at any position. On average a
/// conversation's next turn decodes half of them again. A checkpoint of LFM2 350M takes 80 KiB, of Mamba 130M 2.7 MiB,
/// and is copied in less time than a token takes. A prefill step ends where a checkpoint is due, so a much smaller
/// distance would cost a prompt more passes over the weights.
pub const CHECKPOINT_TOKENS: usize = 256;

/// A prompt's end is kept outside the cells where it is at least this part of `CHECKPOINT_TOKENS` behind the last checkpoint that is
/// kept for its place alone.
pub const CHECKPOINT_TAIL_PARTS: usize = 4;

/// Stretches of `CHECKPOINT_TOKENS` at the end of a prompt in which ends of earlier prompts are looked for: each takes 0.1 ms.
pub const CHECKPOINT_TAILS_MAX: usize = 8;

/// Most bytes of all checkpoints together.
pub const CHECKPOINT_BYTES_MAX: usize = 256 << 20;

/// Most steps in a row that may fail midway before the requests in them are ended with an error.
pub const PARTIAL_STEPS_MAX: u32 = 3;

/// Size of a model, in bytes, up to which one compute thread is the default. Compute threads meet at a spinning barrier
/// after each of about a hundred operations a token. Below this size they wait there longer than they compute, and a
/// hundred times longer on a busy machine, where the kernel may preempt one of them.
pub const ONE_THREAD_MODEL_BYTES_MAX: u64 = 32 << 20;

/// Most rows of one step while no request decodes. Prompts are then prefilled at full speed, and a request that arrives
/// meanwhile waits for one such step. This is the size of llama.cpp's own micro-batch.
pub const ROWS_MAX: usize = 512;

/// Rows of one sequence that llama.cpp's fused attention on a CPU computes together; fewer take a slow path. At 800 cells
/// 48 rows of the Qwen3-0.6B shape cost 480 ms on two cores, 64 rows 240 ms.
pub const TILE_ROWS: usize = 64;

/// Most rows of a step whose logits are kept to score a prompt's tokens, for requests that ask for log probabilities of
/// the prompt: a tile. Over 151,936 tokens they take 37 MiB, which llama.cpp allocates when first asked, and about 15
/// ms to evaluate.
pub const SCORED_ROWS_MAX: usize = TILE_ROWS;

/// Most guesses behind one sequence's next token. If each is right with probability 0.95, more of them would add one
/// token in five.
pub const GUESSES_MAX: usize = 32;

/// Most rows of a step with guesses, including rows that are no guesses. One tile, so that their logits fit into the
/// buffer that scored prompts use.
pub const GUESS_STEP_ROWS_MAX: usize = TILE_ROWS;

/// Most tokens of a path along a grammar. Each has a mask: over 151,936 tokens 450 KiB, for as long as a constrained
/// request runs. A key of JSON with the punctuation around it has about ten tokens.
pub const PATH_TOKENS_MAX: usize = 24;

/// Most tokens that a grammar may allow at a place from which a path is searched. Where it allows more, a free value
/// begins, and the grammar doesn't determine how it goes on. Blanks before a key are a few hundred tokens.
pub const PATH_BEGINS_WITHIN: usize = 512;

/// Most bytes of a path along a grammar.
pub const PATH_BYTES_MAX: usize = 128;

/// How many of the latest tokens of a text are searched for guesses: 8 bytes each, 256 KiB a slot. A power of two.
pub const GUESS_INDEX_TOKENS_MAX: usize = 32_768;

/// Tokens that all earlier answers, with the beginnings of their prompts, may hold as a source of guesses: 1 MiB.
pub const EARLIER_TOKENS_MAX: usize = 262_144;
/// Tokens that one earlier answer may hold as a source of guesses: 16 KiB.
pub const EARLIER_TOKENS_EACH_MAX: usize = 4_096;

/// Most tokens of a request's `prediction`; what is beyond is dropped. A body of 8 MiB can hold two million.
pub const PREDICTION_TOKENS_MAX: usize = 32_768;

/// Most idle sequences between two decoding ones for which each idle sequence gets a row of its own, so that one pass
/// computes all. With separate buffers llama.cpp computes only consecutive sequences together. One more pass costs 28
/// ms for the Qwen3-0.6B shape on two cores, one more row 6 ms.
pub const BRIDGE_MAX: u16 = 3;

/// Most cells of the KV cache without `--ctx-size`: two requests of 131,072 tokens. Each cell takes 60 bytes of
/// bookkeeping from the start, 15 MiB in all. All cells are visited when a sequence is cut, which takes 0.2 ms.
pub const CELLS_DEFAULT_MAX: u64 = 1 << 18;

/// Least tokens of context of a slot without `--ctx-size`, if the model was trained on that many: 2,048 cells of a 0.6B
/// model take 235 MB.
pub const CTX_PER_SLOT_DEFAULT: usize = 2_048;

/// Most bytes of a grammar, a regular expression or a schema, and of all tools of a request together.
pub const GRAMMAR_BYTES_MAX: usize = 64 << 10;

/// Deepest nesting of brackets in a grammar, a regular expression or a schema. Parsers recurse over it; real schemas
/// have a tenth of it.
pub const GRAMMAR_DEPTH_MAX: usize = 64;

/// Most `patternProperties` of one schema. Each pattern is compared with each other.
pub const SCHEMA_PATTERN_PROPERTIES_MAX: usize = 16;

/// Most alternatives of one `oneOf`. Each is compared with each other.
pub const SCHEMA_ONE_OF_MAX: usize = 128;

/// Largest count that a schema may give for items, properties and characters, or a grammar for a repetition.
pub const GRAMMAR_REPEAT_MAX: u64 = 2_000;

/// Most bytes of the grammar made of all tools of a request. 200 tools of an agent take about 100 KiB without their
/// descriptions.
pub const TOOLS_GRAMMAR_BYTES_MAX: usize = 512 << 10;

/// Most tools of one request.
pub const TOOLS_MAX: usize = 1_024;
/// Longest name of a tool, in bytes.
pub const TOOL_NAME_BYTES_MAX: usize = 256;

/// Bytes of stack of the thread that compiles a grammar. llguidance recurses along chains of rules; 64 KiB of the
/// shortest rules make a chain of 13,000, with some KiB of stack each. Only the pages used take memory.
pub const GRAMMAR_STACK_BYTES: usize = 256 << 20;

/// Most milliseconds for one step along a grammar: its first mask, or the mask after a token. One is usual, tens are
/// possible over a large vocabulary, and an ambiguous grammar can take hours.
pub const GRAMMAR_STEP_MS_MAX: u64 = 1_000;

/// Milliseconds of CPU time that a request's grammar earns with each token. A higher rate would slow down requests
/// whose HTTP threads use the same core.
pub const GRAMMAR_CPU_MS_PER_TOKEN: u64 = 20;
/// Most milliseconds of unused CPU time that a request's grammar may save up.
pub const GRAMMAR_CPU_MS_MAX: u64 = 1_000;

/// Compiled grammars that are kept for later requests with the same one; each takes some MiB at most.
pub const GRAMMARS_KEPT: usize = 16;

/// Most inputs of one request for embeddings, which is OpenAI's bound: 2,048 x 1,024 numbers of 4 bytes = 8 MiB of
/// answer.
pub const EMBED_INPUTS_MAX: usize = 2_048;

/// Most inputs that an encoder computes in one step. They have no KV cells; short inputs share a step of up to
/// `ROWS_MAX` rows.
pub const ENCODER_SEQS: u16 = 64;

/// Most bytes of logits that an embedding step may produce. llama.cpp computes a row of logits for every token, also
/// where none is wanted: 512 rows over 151,936 tokens would take 297 MiB.
pub const EMBED_LOGITS_BYTES_MAX: usize = 128 << 20;

/// Most steps that may fail for a request for embeddings, without any input finished in between, before the request is
/// ended with an error.
pub const EMBED_FAILURES_MAX: u32 = 3;

/// Milliseconds before a crashed server is started for the second time; the first restart is at once. The pause doubles
/// with each crash within a minute.
pub const RESTART_MS_MIN: u64 = 50;
/// Longest pause before a restart, in milliseconds, of a server that had begun to serve: clients want it back within a
/// second.
pub const RESTART_SERVED_MS_MAX: u64 = 500;
/// Longest pause before a restart, in milliseconds, of a server that never began to serve: a person must probably mend
/// something first.
pub const RESTART_MS_MAX: u64 = 30_000;

/// Most bytes of a hub's answer about one repository: 300 bytes for each of its files, of which the largest
/// repositories have about ten thousand.
pub const HUB_ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Most seconds for connecting to a hub.
pub const HUB_CONNECT_S_MAX: u64 = 20;
/// Seconds without a byte from a hub after which the connection counts as lost.
pub const HUB_SILENCE_S_MAX: u64 = 60;

/// Most attempts in a row that bring no further byte of a file before its download fails.
pub const HUB_FAILURES_MAX: u32 = 5;
/// Milliseconds of the pause after the first such attempt. Each further pause is twice as long: 15.5 s in all.
pub const HUB_PAUSE_MS: u64 = 500;

/// Longest API key, in bytes. The longest in use, apart from JSON web tokens, have about 170.
pub const API_KEY_BYTES_MAX: usize = 256;

/// Work of one prefilled prompt token, in units of fair scheduling. The ratio to `GENERATED_TOKEN_WORK` follows the
/// paper on virtual token counters (Sheng et al. 2024, section 5.1), which takes the ratio of usual prices.
pub const PROMPT_TOKEN_WORK: u64 = 1;
/// Work of one generated token, in the units of `PROMPT_TOKEN_WORK`.
pub const GENERATED_TOKEN_WORK: u64 = 2;

/// Most models that one line of a key file may name.
pub const KEY_MODELS_MAX: usize = 64;
/// Longest name of a model in a key file, in bytes. A file's name may have 255.
pub const MODEL_NAME_BYTES_MAX: usize = 255;

/// Largest weight of an account. A counter advances by work * 2^20 / weight: at the least weight it wraps after 2^44
/// units of work, 5,000 years at 100 tokens a second, and at the largest one unit is still 1,048 steps of the counter.
pub const WEIGHT_MAX: u32 = 1_000;

/// Work over its weight by which an account may be ahead of the account in turn and still go first, where the cache has the beginning of its
/// request: that of a usual system prompt. The work of two accounts then differs by this much more at most.
pub const READY_CREDIT_WORK: u64 = 256;

/// Accounts, those with the least counters, whose next requests are compared with the cache before one is let in. Each comparison with all
/// sequences takes microseconds.
pub const READY_ACCOUNTS_MAX: usize = 8;

/// Percent of the work that requests of class `batch` get while requests of class `interactive` always wait.
pub const BATCH_SHARE_PERCENT: u32 = 10;

/// Accounts that the engine remembers while none of their requests waits: 48 bytes each. Beyond it, accounts with the
/// least work are forgotten first, which doesn't change the order of requests.
pub const ACCOUNTS_REMEMBERED_MAX: usize = 1_024;

/// Most jobs in the queue of the disk thread of `--prompt-disk`. A job is one block of 1 to 20 MB. This bounds their
/// number; the RAM tier's size bounds their bytes.
pub const PROMPT_JOBS_MAX: usize = 64;
/// Most reads among these jobs.
pub const PROMPT_READS_MAX: usize = 16;

/// Most blocks in the list of what is to be read ahead for requests: 32 bytes each, 256 KiB. A prompt of 131,072 tokens
/// has 2,048 blocks.
pub const PROMPT_AHEAD_MAX: usize = 8_192;
/// Most blocks in RAM in the list of what is to be written to the disk: 32 bytes each, 256 KiB.
pub const PROMPT_UNSAVED_MAX: usize = 8_192;

/// Bytes of `--prompt-disk` where no size is given: 87,000 tokens of a 0.6B model, at 112 KiB a token.
pub const PROMPT_DISK_BYTES_DEFAULT: u64 = 10_000_000_000;

/// Least bytes of the RAM tier of a server with a disk tier. Blocks pass through RAM on their way to and from the disk,
/// and one block of a large model has 20 MB.
pub const PROMPT_STAGING_BYTES: u64 = 128 << 20;

/// Milliseconds between two attempts of the disk thread to lock a folder that another process uses.
pub const PROMPT_LOCK_RETRY_MS: u64 = 1_000;

/// Milliseconds without writes to the disk after a write failed, so that a full disk isn't filled again at once.
pub const PROMPT_WRITE_PAUSE_MS: u64 = 10_000;

/// Most milliseconds that a start waits for the prompt folder to open. Reading one header takes 0.1 ms: 64,000 blocks
/// of a MiB take 7 s. If it takes longer, the server starts without the disk tier, which is used from when the folder
/// is open.
pub const PROMPT_OPEN_MS_MAX: u64 = 10_000;

/// Most milliseconds that the end of the server waits until all pending blocks are on the disk.
pub const PROMPT_END_MS_MAX: u64 = 10_000;

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
