//! Every bound in one place, with its unit and the arithmetic behind it.

/// Sequences in the KV cache; llama.cpp's own ceiling is 256 (`LLAMA_MAX_SEQ`).
pub const SLOTS_MAX: usize = 256;

/// Requests that may wait in the ring for each slot before 429, and the least for all slots together: a usual burst (40 requests
/// at once, 100 prompts in one completion) is queued on a small server, too.
pub const QUEUE_PER_SLOT: usize = 4;
pub const QUEUE_MIN: usize = 100;

/// Tokens a reply slot holds before its reader must take some: 4,096 x 8 bytes = 32 KiB a request.
/// Most replies fit whole, so that a non-streaming reader wakes once.
pub const REPLY_PIECES_MAX: usize = 4_096;

/// Microseconds between two writes of a stream whose pieces come faster than that. So short a wait can't be seen: a screen shows a
/// picture every 16 ms. Over the null decoder it makes one write of 50 pieces.
pub const STREAM_REST_US: u64 = 1_000;

/// Milliseconds after which the head of a stream leaves without an event. An answer whose first event comes sooner leaves in
/// one write with it, and a request that fails sooner has a true status.
pub const STREAM_HEAD_MS: u64 = 250;

/// Milliseconds of silence after which a stream says that it is alive, unless `--stream-ping-ms` names others. Proxies close
/// a connection that says nothing for 15 to 60 s.
pub const STREAM_PING_MS: u64 = 10_000;

/// Looks for a stream's first piece before its thread sleeps, each followed by a turn of other threads: two microseconds
/// in all where there is none to go first.
pub const STREAM_LOOKS_MAX: u32 = 4;

/// Microseconds for which a stream looks on before its first write while each look finds more pieces.
pub const STREAM_LOOK_ON_US: u64 = 100;

/// Bytes of a request body. DESIGN section 5.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// Descriptors of a server beside its connections: 128 for clients that are told that there is no room, 64 for the listener,
/// the poller, standard streams, the model, and a margin.
pub const DESCRIPTORS_SPARE: usize = 128 + 64;

/// Stop strings a request, and bytes of one: the held-back tail of a stream is at most `STOP_BYTES_MAX - 1`.
pub const STOPS_MAX: usize = 64;
pub const STOP_BYTES_MAX: usize = 1_024;

/// Paths in `response_fields`: an answer has some 40.
pub const RESPONSE_FIELDS_MAX: usize = 256;

/// Files in `input_extra`: editors send some 16, and the context holds no more of any use.
pub const INFILL_FILES_MAX: usize = 1_024;

/// Entries of `stop_token_ids`: each generated token is compared with each.
pub const STOP_TOKENS_MAX: usize = 256;

/// End-of-generation tokens of a vocabulary that `min_tokens` keeps back. Real ones have fewer than ten.
pub const EOG_TOKENS_MAX: usize = 64;

/// Strings of `dry_sequence_breakers`, and bytes of each that count; llama.cpp cuts them there too. Each is looked for in the text of
/// each token of the vocabulary.
pub const DRY_BREAKERS_MAX: usize = 32;
pub const DRY_BREAKER_BYTES_MAX: usize = 40;

/// Tokens of a breaker's rest that count, as in llama.cpp.
pub const DRY_TAIL_MAX: usize = 20;

/// Entries of `logit_bias`.
pub const LOGIT_BIAS_MAX: usize = 1_024;

/// Generations of one `POST /benchmark`, and prompts they take in turn: a million tokens at 50 each, ten minutes at what a
/// small model does.
pub const BENCHMARK_REQUESTS_MAX: usize = 20_000;
pub const BENCHMARK_PROMPTS_MAX: usize = 1_000;

/// Steps that a server with `--trace` remembers: 64 bytes each, 1 MiB. At 10 ms between two looks the null decoder makes a
/// few thousand.
pub const TRACE_STEPS_KEPT: usize = 16_384;

/// Steps of one timeline: about 640 bytes of JSON each, 20 MiB. A minute of a model that makes 500 a second.
pub const TRACE_STEPS_MAX: usize = 32_768;

/// Steps that `cllm profile` keeps of one batching thread: 72 bytes each in memory, 9 MiB, and 80 MiB of JSON.
pub const PROFILE_STEPS_MAX: usize = 131_072;

/// Longest that `GET /debug/trace` listens.
pub const TRACE_SECONDS_MAX: f64 = 60.0;

/// Tokens of a common beginning from which copying cells to another sequence beats decoding them again. A copy moves
/// a whole sequence's buffer (10 ms for 512 tokens of a 0.6B model), about what decoding one or two tokens costs.
pub const PREFIX_COPY_MIN: usize = 16;

/// Tokens of a common beginning, not in the cache yet, that make waiting for another request's prefill worth it.
pub const PREFIX_WAIT_MIN: usize = 32;

/// Tokens of a block in which KV state is kept outside the cells. A block is moved between two steps: 7 MiB of the Qwen3-0.6B shape,
/// some milliseconds, where a decode step takes 57. On the mean half a block of a beginning is read again; twice the size would double
/// both. No window of a model with a sliding window is smaller.
pub const PROMPT_BLOCK_TOKENS: usize = 64;

/// Microseconds for which blocks are put into cells, and saved, while no request is held up, before the engine looks for new ones.
pub const RESTORE_IDLE_US: u64 = 20_000;
pub const SAVE_IDLE_US: u64 = 10_000;

/// Saving takes at most this part of a step that others are served in, or one block: 3 ms of the Qwen3-0.6B shape beside 57 ms.
pub const SAVE_STEP_PARTS: u64 = 8;

/// Blocks that are named between two steps to find one that must be saved: 1 us each.
pub const SAVE_NAMES_MAX: usize = 32;

/// Microseconds that saving may take when the server ends: a disk writes some GB in that time.
pub const SAVE_AT_END_US_MAX: u64 = 5_000_000;

/// Microseconds that a request waits for a block from the disk before it reads its prompt instead: as long as reading would take, within
/// these bounds.
pub const RESTORE_WAIT_US_MIN: u64 = 100_000;
pub const RESTORE_WAIT_US_MAX: u64 = 5_000_000;

/// Tokens from one checkpoint of a sequence to the next, where the cache can't be cut at any position: on the mean half of them are read
/// again by a conversation's next turn. A checkpoint of LFM2 350M takes 80 KiB, of Mamba 130M 2.7 MiB, and is copied in less time than a
/// token takes. Steps end where one is due, so far fewer tokens would cost a prompt passes over the weights.
pub const CHECKPOINT_TOKENS: usize = 256;

/// Bytes of all checkpoints together.
pub const CHECKPOINT_BYTES_MAX: usize = 256 << 20;

/// Steps in a row that may fail midway before the requests in them are given up.
pub const PARTIAL_STEPS_MAX: u32 = 3;

/// Bytes of a model up to which one compute thread is the default. Threads meet at a spinning barrier after each of some
/// hundred operations a token; below this size they wait there longer than they compute, and on a busy machine, where
/// one of them may be put aside by the kernel, a hundred times longer.
pub const ONE_THREAD_MODEL_BYTES_MAX: u64 = 32 << 20;

/// Rows of one step while no request decodes: prompts are then read at full speed, and a request that arrives meanwhile waits for one
/// such step. The size of llama.cpp's own micro-batch.
pub const ROWS_MAX: usize = 512;

/// Rows of one sequence that llama.cpp's fused attention on a CPU computes together; fewer take a slow path. At 800 cells
/// 48 rows of the Qwen3-0.6B shape cost 480 ms on two cores, 64 rows 240 ms.
pub const TILE_ROWS: usize = 64;

/// Rows of a step whose logits say how likely a prompt's next tokens were, for requests that ask for it: a tile. Over 151,936 tokens
/// they are 37 MiB, which llama.cpp allocates when first asked; what is made of them takes about 15 ms.
pub const SCORED_ROWS_MAX: usize = TILE_ROWS;

/// Guesses behind one sequence's next token. Where each comes true with 0.95, more would add a token in five.
pub const GUESSES_MAX: usize = 32;

/// Rows of a step with guesses, rows that are no guesses included: a tile, whose logits fit where a scored prompt's do.
pub const GUESS_STEP_ROWS_MAX: usize = TILE_ROWS;

/// Tokens of a path along a grammar, with a mask each: over 151,936 tokens 450 KiB, for as long as a constrained request runs. A key of
/// JSON with all that stands around it has about ten.
pub const PATH_TOKENS_MAX: usize = 24;

/// Tokens that a grammar may allow where it is looked how it goes on: more is a value, whose rest isn't the grammar's to say. Blanks
/// before a key are some hundred tokens.
pub const PATH_BEGINS_WITHIN: usize = 512;

/// Bytes of a path along a grammar.
pub const PATH_BYTES_MAX: usize = 128;

/// Latest tokens of a text among which guesses are looked for: 8 bytes each, 256 KiB a slot. A power of two.
pub const GUESS_INDEX_TOKENS_MAX: usize = 32_768;

/// Tokens of earlier answers, and of the beginnings of their prompts, that guesses come from: 1 MiB in all, and of one answer 16 KiB.
pub const EARLIER_TOKENS_MAX: usize = 262_144;
pub const EARLIER_TOKENS_EACH_MAX: usize = 4_096;

/// Tokens of a request's `prediction`; what is beyond is left out. The 8 MiB of a body may hold two million.
pub const PREDICTION_TOKENS_MAX: usize = 32_768;

/// Idle sequences between two that decode, up to which each gets a row of its own to join them into one pass. With
/// separate buffers llama.cpp takes only consecutive sequences together; a pass more costs 28 ms for the Qwen3-0.6B shape
/// on two cores, a row more 6 ms.
pub const BRIDGE_MAX: u16 = 3;

/// Most cells of the KV cache without `--ctx-size`: two requests of 131,072 tokens. Each takes 60 bytes of bookkeeping from the
/// start, 15 MiB, and is looked at when a sequence is cut, 0.2 ms in all.
pub const CELLS_DEFAULT_MAX: u64 = 1 << 18;

/// Least tokens of context of a slot without `--ctx-size`, if the model was trained on as many: 2,048 cells of a 0.6B
/// model are 235 MB.
pub const CTX_PER_SLOT_DEFAULT: usize = 2_048;

/// Bytes of a grammar, a regular expression or a schema, and of all tools of a request together.
pub const GRAMMAR_BYTES_MAX: usize = 64 << 10;

/// Nesting of brackets in one. Parsers recurse over it; real schemas have a tenth.
pub const GRAMMAR_DEPTH_MAX: usize = 64;

/// Patterns for names of properties in one schema: each is compared with each.
pub const SCHEMA_PATTERN_PROPERTIES_MAX: usize = 16;

/// Alternatives of one `oneOf`: each is compared with each.
pub const SCHEMA_ONE_OF_MAX: usize = 128;

/// Most that a schema's counts of items, properties and characters, and a grammar's repetitions, may ask for.
pub const GRAMMAR_REPEAT_MAX: u64 = 2_000;

/// Bytes of the grammar of all tools together: 200 tools of an agent take about 100 KiB without their descriptions.
pub const TOOLS_GRAMMAR_BYTES_MAX: usize = 512 << 10;

/// Tools a request may define, and bytes of a tool's name.
pub const TOOLS_MAX: usize = 1_024;
pub const TOOL_NAME_BYTES_MAX: usize = 256;

/// Bytes of stack for compiling a grammar: llguidance recurses along chains of rules, and 64 KiB of the shortest rules
/// make 13,000 links of some KiB each. Only what is used takes memory.
pub const GRAMMAR_STACK_BYTES: usize = 256 << 20;

/// Milliseconds that one step along a grammar may take: the first mask, or the one after a token. One is usual, tens are
/// possible over a large vocabulary; in an ambiguous grammar a step can take hours.
pub const GRAMMAR_STEP_MS_MAX: u64 = 1_000;

/// Milliseconds of CPU time that a request's grammar gets for each token, and that it may save up. More would slow
/// down requests with HTTP threads on the same core.
pub const GRAMMAR_CPU_MS_PER_TOKEN: u64 = 20;
pub const GRAMMAR_CPU_MS_MAX: u64 = 1_000;

/// Compiled grammars kept for the next request with the same one; some MiB each at most.
pub const GRAMMARS_KEPT: usize = 16;

/// Inputs of one request for embeddings, as OpenAI has it: 2,048 x 1,024 numbers of 4 bytes = 8 MiB of answer.
pub const EMBED_INPUTS_MAX: usize = 2_048;

/// Inputs that an encoder reads in one step. They have no cells; short ones join up to `ROWS_MAX` rows.
pub const ENCODER_SEQS: u16 = 64;

/// Bytes of logits that an embedding step may leave. llama.cpp computes a row for every token, wanted or not: 512 of them
/// over 151,936 tokens would be 297 MiB.
pub const EMBED_LOGITS_BYTES_MAX: usize = 128 << 20;

/// Steps that may fail for a request for embeddings, between two inputs it finishes, before it is given up.
pub const EMBED_FAILURES_MAX: u32 = 3;

/// Milliseconds before a crashed server is started again: none the first time, then this, doubled with each crash within a
/// minute. One that came to serve is wanted back within a second; one that didn't may wait for a person.
pub const RESTART_MS_MIN: u64 = 50;
pub const RESTART_SERVED_MS_MAX: u64 = 500;
pub const RESTART_MS_MAX: u64 = 30_000;

/// What a hub may say about a repository: 300 bytes a file, of which the largest have some ten thousand.
pub const HUB_ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Seconds until a hub must be connected to, and without a byte from it until the connection counts as lost.
pub const HUB_CONNECT_S_MAX: u64 = 20;
pub const HUB_SILENCE_S_MAX: u64 = 60;

/// Attempts in a row that get no further in a file before it is given up, and the first pause between them, doubled each
/// time: 15.5 s in all.
pub const HUB_FAILURES_MAX: u32 = 5;
pub const HUB_PAUSE_MS: u64 = 500;

/// Bytes of an API key. The longest in use, JSON web tokens aside, have about 170.
pub const API_KEY_BYTES_MAX: usize = 256;

/// Work of a prompt token that is read and of a token that is generated, as in the paper on virtual token counters (section 5.1), which
/// takes the ratio of usual prices.
pub const PROMPT_TOKEN_WORK: u64 = 1;
pub const GENERATED_TOKEN_WORK: u64 = 2;

/// Models that the line of an API key names, and bytes of such a name: a file may have 255.
pub const KEY_MODELS_MAX: usize = 64;
pub const MODEL_NAME_BYTES_MAX: usize = 255;

/// The largest weight of an account. A counter advances by work * 2^20 / weight: at the least weight it wraps after 2^44 units of
/// work, 5,000 years at 100 tokens a second, and at the largest a unit is still 1,048 steps.
pub const WEIGHT_MAX: u32 = 1_000;

/// Percent of the work that requests of class batch get while requests of class interactive wait all the time.
pub const BATCH_SHARE_PERCENT: u32 = 10;

/// Accounts that the engine remembers while none of their requests waits: 48 bytes each. Beyond it, accounts with the
/// least work are forgotten first, which changes nothing.
pub const ACCOUNTS_REMEMBERED_MAX: usize = 1_024;

/// Jobs that the disk thread of `--prompt-disk` may have, and how many of them may be reads. A job is a block, of 1 to 20 MB; RAM bounds
/// their bytes, and the queue only their number.
pub const PROMPT_JOBS_MAX: usize = 64;
pub const PROMPT_READS_MAX: usize = 16;

/// Blocks that are to be read ahead of a request, and blocks in RAM that wait to be written: 32 bytes each, 512 KiB in all. A prompt of
/// 131,072 tokens has 2,048.
pub const PROMPT_AHEAD_MAX: usize = 8_192;
pub const PROMPT_UNSAVED_MAX: usize = 8_192;

/// Bytes of `--prompt-disk` without a size: 87,000 tokens of a 0.6B model, at 112 KiB a token.
pub const PROMPT_DISK_BYTES_DEFAULT: u64 = 10_000_000_000;

/// Least bytes of RAM with a disk tier: blocks pass through it on their way, and one of a large model has 20 MB.
pub const PROMPT_STAGING_BYTES: u64 = 128 << 20;

/// Milliseconds until the disk thread looks again whether another process has left its folder.
pub const PROMPT_LOCK_RETRY_MS: u64 = 1_000;

/// Milliseconds for which nothing is written to a disk after a write failed: a full disk isn't filled up again and again.
pub const PROMPT_WRITE_PAUSE_MS: u64 = 10_000;

/// Milliseconds for which a start waits until the folder is open. A header is read in 0.1 ms: 64,000 blocks of a
/// MiB take 7 s. Where it takes longer the server starts without it, and has it later.
pub const PROMPT_OPEN_MS_MAX: u64 = 10_000;

/// Milliseconds for which the end of the server waits until the blocks that wait are on the disk.
pub const PROMPT_END_MS_MAX: u64 = 10_000;

/// Tokens of a block of the KV cache in KV events and in `vllm:cache_config_info`: vLLM's usual size, and the largest.
pub const KV_BLOCK_TOKENS: usize = 16;
pub const KV_BLOCK_TOKENS_MAX: usize = 4_096;

/// Changes of sequences' blocks that wait for the thread that publishes them: 40 bytes each and the tokens of their blocks. Beyond
/// it the changes of a sequence are told together, later.
pub const KV_BLOCK_CHANGES_MAX: usize = 4_096;

/// Seconds that `GET /debug/kv-blocks` waits for the batching thread, which answers between two steps.
pub const KV_BLOCKS_WAIT_S_MAX: u64 = 60;

/// Blocks of one event, and of one message of KV events unless one event has more: at 16 tokens of 3 bytes a block a message has
/// about 60 KiB.
pub const KV_EVENT_BLOCKS_MAX: usize = 1_024;
pub const KV_MESSAGE_BLOCKS_MAX: usize = 1_024;

/// Messages of KV events that are kept for subscribers that lost some, as many as vLLM keeps, and their bytes.
pub const KV_EVENTS_KEPT_MAX: usize = 10_000;
pub const KV_EVENTS_KEPT_BYTES_MAX: usize = 32 << 20;

/// Connections to the socket of KV events, and bytes that wait for one of them before messages to it are dropped: a thousand
/// blocks a second for two minutes.
pub const KV_EVENTS_PEERS_MAX: usize = 64;
pub const KV_EVENTS_QUEUE_BYTES_MAX: usize = 8 << 20;

/// Seconds in which a connection to this socket must say what it wants.
pub const KV_EVENTS_HANDSHAKE_S_MAX: u64 = 10;

/// Bytes of a frame that such a peer sends (its properties, a topic or a number), frames of its message, and topics that it
/// subscribes to.
pub const ZMTP_FRAME_BYTES_MAX: usize = 4_096;
pub const ZMTP_FRAMES_MAX: usize = 8;
pub const ZMTP_TOPICS_MAX: usize = 64;

/// Keys of a key file, and bytes of a key's name: each is a label of /metrics, about 1 KiB of it.
pub const API_KEYS_MAX: usize = 1_000;
pub const KEY_NAME_BYTES_MAX: usize = 64;
