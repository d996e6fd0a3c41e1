//! The input is a model file: its header is read as at the start of a server, then its vocabulary.
#![no_main]

use std::path::Path;

use fuzzing::gguf::GgufFile;
use fuzzing::last;
use fuzzing::tokenizer::Tokenizer;
use fuzzing::types::{StartupError, Token};
use libfuzzer_sys::fuzz_target;

/// What is read into tokens by each vocabulary that can be made.
const TEXT: &str = "Hello, <s>world</s>!  \u{e4} \u{732b} \u{1f600}\n\n\tend 12345 <|im_end|>";

fuzz_target!(|input: &[u8]| {
    last::keep(input);
    let path = Path::new("fuzzed.gguf");
    let Ok(file) = GgufFile::read(input, input.len() as u64, path) else { return };
    let _ = file.check_complete();
    for key in file.keys() {
        let value = file.get(key).expect("a key has a value");
        if let Some(strs) = file.strs(key) {
            assert_eq!(Some(strs.iter().len()), value.array_len());
        }
        let _ = (file.str(key), file.u64(key), file.f32(key), file.i32s(key), file.f32s(key));
    }
    // llama.cpp's own vocabulary, which isn't linked here, is the other way.
    let foreign = || Err(StartupError::Model { path: path.to_owned(), reason: "foreign".to_owned() });
    let Ok(tokenizer) = Tokenizer::from_gguf(&file, foreign) else { return };
    for (add_special, parse_special) in [(true, true), (false, false)] {
        let Ok(tokens) = tokenizer.encode(TEXT, add_special, parse_special) else { continue };
        assert!(tokens.iter().all(|token| token.index() < tokenizer.n_vocab()), "{tokens:?}");
        let _ = tokenizer.decode(&tokens, true);
    }
    for id in 0..tokenizer.n_vocab().min(64) as u32 {
        let _ = tokenizer.piece(Token(id), true);
    }
    let _ = (tokenizer.control_texts(), tokenizer.fim(), tokenizer.encode_pair("a", "b"), tokenizer.kind());
});
