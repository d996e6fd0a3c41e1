//! Bounds of the KV cache, the steps, fairness, the ring and the reply slots.

/// Sequences in the KV cache; llama.cpp's own ceiling is 256 (`LLAMA_MAX_SEQ`).
pub const SLOTS_MAX: usize = 256;

/// Requests that may wait in the submission ring for each slot before new ones get 429. The ring has at least
/// `QUEUE_MIN` places.
pub const QUEUE_PER_SLOT: usize = 4;
/// Least capacity of the submission ring, in requests. A usual burst (40 requests at once, or 100 prompts in one
/// completion) is queued also on a server with few slots.
pub const QUEUE_MIN: usize = 100;
/// Most waiting requests that `--queue` may allow. Each holds a prompt of at most one context (4 bytes for each token) and one
/// HTTP thread.
pub const QUEUE_MAX: usize = 1_024;

/// How often the batching thread looks for a new request before it parks. A thread that is about to push may need this core, and
/// gets it between two looks. If no thread needs it, the looks take a few microseconds.
pub const RING_LOOKS: u32 = 32;
/// How many of the first of these looks only spin. Each later look first yields the core to other threads.
pub const BELL_SPINS: u32 = 16;

/// Longest sleep of the batching thread, in milliseconds. It bounds how late the thread notices a deadline. While requests run
/// or wait it sleeps a tenth of this at most.
pub const PARK_MS_MAX: u64 = 100;

/// Tokens a reply slot holds before its reader must take some: 4,096 x 8 bytes = 32 KiB a request.
/// Most replies fit whole, so that a non-streaming reader wakes once.
pub const REPLY_PIECES_MAX: usize = 4_096;

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

/// Most rows of one step that `--step-tokens` may allow. All rows of a step wait for each other; no machine gains from more.
pub const STEP_TOKENS_MAX: usize = 8_192;

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

/// Most places in one free value of a constrained text from which its end is looked for. It may not end at the first ones, if it
/// has a minimum length. A look takes some 100 us.
pub const VALUE_END_LOOKS_MAX: usize = 4;

/// Most bytes of a path along a grammar.
pub const PATH_BYTES_MAX: usize = 128;

/// The most time that a request may have gained by guesses and spend later, in plain steps: about as many as a paragraph has tokens. It may
/// write one without guesses beside requests that have them.
pub const GUESS_SAVED_STEPS_MAX: usize = 32;

/// How many of the latest tokens of a text are searched for guesses: 8 bytes each, 256 KiB a slot. A power of two.
pub const GUESS_INDEX_TOKENS_MAX: usize = 32_768;
/// Most tokens that are indexed for guesses for each generated token, so that a long prompt is indexed over several steps. About
/// 50 us.
pub const GUESS_INDEX_STEP_TOKENS_MAX: usize = 4_096;

/// Tokens that all earlier answers, with the beginnings of their prompts, may hold as a source of guesses: 1 MiB.
pub const EARLIER_TOKENS_MAX: usize = 262_144;
/// Tokens that one earlier answer may hold as a source of guesses: 16 KiB.
pub const EARLIER_TOKENS_EACH_MAX: usize = 4_096;
/// Tokens of the beginning of an earlier answer's prompt that are kept for comparison: more than a template has before its first
/// message.
pub const EARLIER_BEGINNING_TOKENS_MAX: usize = 256;
/// Most earlier answers that are sources of guesses for one request.
pub const EARLIER_ANSWERS_MAX: usize = 4;

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

/// Most cells of the KV cache: 16 Mi. At 2 bytes x 2 x 1,024 values a layer and 28 layers that is 1.8 TiB.
pub const CTX_TOTAL_MAX: u32 = 1 << 24;

/// Without `--ctx-size` the cache may grow to one part in this many of the memory that the model leaves: half.
pub const CACHE_MEMORY_PARTS: u64 = 2;

/// Most inputs that an encoder computes in one step. They have no KV cells; short inputs share a step of up to
/// `ROWS_MAX` rows.
pub const ENCODER_SEQS: u16 = 64;

/// Most bytes of logits that an embedding step may produce. llama.cpp computes a row of logits for every token, also
/// where none is wanted: 512 rows over 151,936 tokens would take 297 MiB.
pub const EMBED_LOGITS_BYTES_MAX: usize = 128 << 20;

/// Most steps that may fail for a request for embeddings, without any input finished in between, before the request is
/// ended with an error.
pub const EMBED_FAILURES_MAX: u32 = 3;

/// Work of one prefilled prompt token, in units of fair scheduling. The ratio to `GENERATED_TOKEN_WORK` follows the
/// paper on virtual token counters (Sheng et al. 2024, section 5.1), which takes the ratio of usual prices.
pub const PROMPT_TOKEN_WORK: u64 = 1;
/// Work of one generated token, in the units of `PROMPT_TOKEN_WORK`.
pub const GENERATED_TOKEN_WORK: u64 = 2;

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

/// The wait for requests that arrive together ends once no request has arrived for one part in this many of a decode step. If
/// the clients of ended requests don't return, this costs 3 % of a step.
pub const GATHER_QUIET_PARTS: u64 = 32;
/// This wait lasts at most one part in this many of a decode step.
pub const GATHER_WAIT_PARTS: u64 = 8;
/// Microseconds. If `GATHER_QUIET_PARTS` gives less, there is no wait: so short a sleep mostly measures the timer.
pub const GATHER_QUIET_US_MIN: u64 = 100;

/// Longest step of the null decoder, in microseconds: a second. The slowest machines need that long for a real step.
pub const NULL_STEP_US_MAX: u64 = 1_000_000;

/// Most layers that `--gpu-layers` may ask for. No model has a tenth of them.
pub const GPU_LAYERS_MAX: u32 = 9_999;

/// Most bounds of a histogram of `/metrics`. It has one bucket more, for values above all bounds: 8 bytes each.
pub const HISTOGRAM_BOUNDS_MAX: usize = 20;

/// Most tokens that penalties look back on: 4,096 tokens x 4 bytes = 16 KiB for each slot. The sampler reads them twice for each
/// token.
pub const PENALTY_LAST_N_MAX: usize = 4_096;
