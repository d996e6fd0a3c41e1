//! What each generated vocabulary has, whatever its size: special tokens, and bytes or characters.

/// Special tokens, which are the last ids of a generated BPE vocabulary. The chat template and the end of a text use them.
pub const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// The least size of a BPE vocabulary: 256 bytes and the special tokens.
pub const SIZE_MIN: usize = 256 + SPECIAL.len();

/// Special tokens of a generated WordPiece vocabulary, which are its first ids.
pub const WORDPIECE_SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// The characters of a generated WordPiece vocabulary. WordPiece turns text into lower case, so there are no capitals.
pub const WORDPIECE_CHARS: &str = "!\"#$%&'()*+,-./0123456789:;<=>?@[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";
/// The least size of a WordPiece vocabulary: each character at the start of a word and inside one, and the special tokens.
pub const WORDPIECE_SIZE_MIN: usize = 2 * WORDPIECE_CHARS.len() + WORDPIECE_SPECIAL.len();
