//! Bounds of files and of what is around the server: model files, downloads, prompts on disk, the supervisor.

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

/// Bytes of a download that are read in one call.
pub const HUB_CHUNK_BYTES: usize = 256 << 10;

/// Most names of a repository's files that a message lists.
pub const HUB_FILES_NAMED_MAX: usize = 24;

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

/// Without `--prompt-ram` the RAM tier takes one part in this many of the memory that the model leaves. The KV cache may take half
/// (`CACHE_MEMORY_PARTS`).
pub const PROMPT_MEMORY_PARTS: u64 = 8;

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

/// Milliseconds between two checks of the supervisor whether the server runs. A crash is noticed at most this late.
pub const SUPERVISOR_LOOK_MS: u64 = 20;

/// Milliseconds between two checks of the main thread, which waits for a signal, whether the batching thread has ended.
pub const BATCH_LOOK_MS: u64 = 50;

/// Seconds after which systemd ends a service if its engine makes no step or, while idle, no round of its loop. The longest
/// step on a slow machine takes 10 s.
pub const WATCHDOG_S: u64 = 120;

/// Threads that systemd allows a service beyond those for HTTP: the batching thread, compute threads (512 at most),
/// threads of connections, of the disk and of KV events.
pub const SERVICE_TASKS_SPARE: usize = 1_024;

/// Most bytes of a model file's metadata and list of tensors together. The largest known vocabularies take 30 MiB.
pub const GGUF_HEADER_BYTES_MAX: u64 = 512 << 20;
/// Longest name of a tensor or of a key in a model file, in bytes: well above ggml's own bound for tensors, 64 (`GGML_MAX_NAME`).
pub const GGUF_NAME_BYTES_MAX: u64 = 4096;

/// Longest manifest of an appliance, in bytes: enough for a hundred parts, of which there are four.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 10;

/// Most sections of an executable that are read. Linkers make about 40.
pub const ELF_SECTIONS_MAX: u64 = 1_000;
/// Most bytes of the names of these sections. They take some hundred.
pub const ELF_NAMES_BYTES_MAX: u64 = 64 << 10;
/// Most bytes of a section that is read.
pub const ELF_SECTION_BYTES_MAX: u64 = 64 << 10;

/// Bytes of the buffer for the message of a C++ exception; a longer message is cut.
pub const SHIM_MESSAGE_BYTES: usize = 512;

/// Most elements of a width or a vocabulary of `cllm synth`, above the largest known models. Keeps products of sizes within 64
/// bits.
pub const SYNTH_WIDTH_MAX: usize = 1 << 20;
