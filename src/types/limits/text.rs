//! Bounds of texts: tokenizers, chat templates, tool calls, grammars, schemas.

/// Most strings of `dry_sequence_breakers`. Each is searched for in the text of each token of the vocabulary.
pub const DRY_BREAKERS_MAX: usize = 32;
/// Bytes of one string of `dry_sequence_breakers` that count; llama.cpp also cuts longer strings there.
pub const DRY_BREAKER_BYTES_MAX: usize = 40;

/// Tokens that count of what follows a breaker's first token, as in llama.cpp.
pub const DRY_TAIL_MAX: usize = 20;

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

/// Longest text that is tokenised, in bytes. A request's body with all that a chat template adds is far shorter.
pub const TOKENIZED_BYTES_MAX: usize = 64 << 20;

/// Longest text that llama.cpp's tokenizer is given, in bytes. `LLAMA_TOKENIZER_STACK_BYTES_PER_BYTE` makes this a stack of 1 GiB.
pub const LLAMA_TOKENIZED_BYTES_MAX: usize = 1 << 20;
/// Stack of the thread that runs llama.cpp's tokenizer over a short text, in bytes. Only the part that is used takes memory.
pub const LLAMA_TOKENIZER_STACK_BYTES_MIN: usize = 16 << 20;
/// Bytes of this stack for each byte of a longer text. `std::regex` overflows 8 MiB at about 26,000 equal characters, which is
/// 320 bytes for each; this is twice that, rounded up.
pub const LLAMA_TOKENIZER_STACK_BYTES_PER_BYTE: usize = 1024;

/// Longest text that is tokenised by a `tokenizer.json`, in bytes. Its regular expressions
/// backtrack, so the bound is lower than `TOKENIZED_BYTES_MAX`.
pub const JSON_TOKENIZED_BYTES_MAX: usize = 1 << 20;

/// With more occurrences of special tokens in a text than this, overlaps included, the text is searched for one special token at
/// a time. Bounds the memory to 32 MiB.
pub const SPECIAL_OCCURRENCES_MAX: usize = 4 << 20;

/// Longest text, in bytes, after which a thread keeps the buffers of merging.
pub const BPE_KEPT_TEXT_BYTES_MAX: usize = 4 << 10;

/// Most instructions of one rendering of a chat template. The longest published templates need a few thousand for a chat of 100
/// turns.
pub const TEMPLATE_FUEL_MAX: u64 = 50_000_000;
/// Most instructions of one rendering of the small conversations that are tried at start-up.
pub const TEMPLATE_TRIAL_FUEL_MAX: u64 = 1_000_000;

/// Most spaces of one level of indentation in a template's `tojson`.
pub const TEMPLATE_INDENT_MAX: usize = 16;
/// Most entries of a list that a template makes.
pub const TEMPLATE_LIST_MAX: usize = 1 << 20;

/// Longest head of a message in the Harmony format, in bytes; anything longer is text.
pub const HARMONY_HEAD_BYTES_MAX: usize = 256;

/// Most bytes between a call's name and its arguments. Beyond this the text is no call.
pub const CALL_GAP_BYTES_MAX: usize = 256;
/// Deepest nesting of values in a call's arguments. The parser recurses over it.
pub const CALL_DEPTH_MAX: usize = 64;

/// Most references (`$ref`) of a schema that are followed one after the other, so that a circle ends.
pub const SCHEMA_REFERENCES_MAX: usize = 16;

/// Depth to which references and nested values of a tool's arguments become rules of a grammar; deeper values may be anything.
pub const ARGUMENTS_DEPTH_MAX: usize = 8;

/// Most tokens of white space between a thought and a constrained answer.
pub const THOUGHT_GAP_TOKENS_MAX: usize = 2;

/// Longest run of white space that is remembered to guess the next one between the same characters, in bytes.
pub const BLANK_BYTES_MAX: usize = 24;
/// Most pairs of characters whose white space is remembered. JSON has about ten pairs.
pub const BLANK_PAIRS_MAX: usize = 32;
