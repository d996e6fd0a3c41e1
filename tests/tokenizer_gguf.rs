//! A GGUF that is truncated, damaged or hostile is refused with one line.

use std::path::Path;

use cllm::gguf::{GgufFile, GgufWriter, Value};
use cllm::tokenizer::Tokenizer;

fn sample() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.add_kv("general.architecture", Value::str("llama"));
    writer.add_kv("general.alignment", Value::U32(32));
    writer.add_kv("a.bool", Value::Bool(true));
    writer.add_kv("a.float", Value::F32(1.5));
    writer.add_kv("some.strings", Value::Strs(["one", "", "three"].into_iter().collect()));
    writer.add_kv("some.numbers", Value::i32s(&[1, -2, 3]));
    writer
}

fn read(bytes: &[u8]) -> Result<GgufFile, String> {
    GgufFile::read(bytes, bytes.len() as u64, Path::new("test.gguf"))
}

#[test]
fn what_is_written_is_read() {
    let mut writer = sample();
    writer.add_tensor("first", &[3, 2], 0, 24).add_tensor("second", &[32], 2, 18);
    let mut bytes = Vec::new();
    let mut stream = writer.start(&mut bytes).expect("memory");
    stream.write(&[1; 20]).expect("memory");
    stream.write(&[2; 4]).expect("memory");
    assert!(stream.write(&[3; 19]).is_err(), "too much for the second");
    stream.write(&[3; 18]).expect("memory");
    stream.finish().expect("complete");
    let gguf = read(&bytes).expect("a GGUF");
    assert_eq!(gguf.str("general.architecture"), Some("llama"));
    assert_eq!((gguf.bool("a.bool"), gguf.f32("a.float")), (Some(true), Some(1.5)));
    let strs = gguf.strs("some.strings").expect("strings");
    assert_eq!(strs.iter().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    assert_eq!(gguf.i32s("some.numbers"), Some(vec![1, -2, 3]));
    assert_eq!(gguf.tensors().len(), 2);
    assert_eq!((gguf.tensors()[1].offset, gguf.tensors()[1].bytes), (32, Some(18)));
    assert_eq!(bytes[gguf.data_offset() as usize + 32], 3);
    gguf.check_complete().expect("all data is there");

    let cut = &bytes[..gguf.data_offset() as usize + 40];
    let reason = read(cut).expect("the header is whole").check_complete().expect_err("data is missing").to_string();
    assert!(reason.contains("truncated"), "{reason}");
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample().into_bytes();
    let whole = read(&bytes).expect("a GGUF");
    assert_eq!(whole.keys().len(), 6);
    // The padding after the last key may be missing.
    let header = (0..bytes.len()).rev().find(|&n| bytes[n] != 0).expect("not all zero") - 3;
    for n in 0..header {
        let reason = read(&bytes[..n]).expect_err("cut off");
        assert!(!reason.contains('\n') && !reason.is_empty(), "{reason:?}");
    }
}

#[test]
fn damage_is_refused_or_harmless() {
    let bytes = sample().into_bytes();
    for at in 0..bytes.len() {
        for value in [0, 1, 9, 0x7f, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            if let Err(reason) = read(&damaged) {
                assert!(!reason.contains('\n'), "{reason:?}");
            }
        }
    }
    for count in [u64::MAX, 1 << 62, 1 << 32] {
        let mut absurd = bytes.clone();
        absurd[8..16].copy_from_slice(&count.to_le_bytes());
        assert!(read(&absurd).is_err(), "{count} tensors");
        absurd[8..16].copy_from_slice(&0u64.to_le_bytes());
        absurd[16..24].copy_from_slice(&count.to_le_bytes());
        assert!(read(&absurd).is_err(), "{count} keys");
    }
}

#[test]
fn other_files_are_named_as_such() {
    for (bytes, word) in [(&b""[..], "not a GGUF"), (b"GG", "not a GGUF"), (b"PK\x03\x04 zip", "not a GGUF")] {
        let reason = read(bytes).expect_err("no GGUF");
        assert!(reason.contains(word), "{reason}");
    }
    let missing = GgufFile::open(Path::new("no/such/file.gguf")).expect_err("missing").to_string();
    assert!(missing.contains("no/such/file.gguf"), "{missing}");
}

/// llama.cpp aborts on these, so they must be refused before llama.cpp reads them.
#[test]
fn vocabularies_that_abort_llama_cpp_are_refused() {
    let refused = |change: fn(&mut GgufWriter)| {
        let mut writer = sample();
        writer.add_kv("tokenizer.ggml.model", Value::str("gpt2"));
        writer.add_kv("tokenizer.ggml.pre", Value::str("qwen2"));
        writer.add_kv("tokenizer.ggml.tokens", Value::Strs(["a", "b", "ab"].into_iter().collect()));
        writer.add_kv("tokenizer.ggml.merges", Value::Strs(["a b"].into_iter().collect()));
        change(&mut writer);
        let gguf = read(&writer.into_bytes()).expect("a GGUF");
        Tokenizer::from_gguf(&gguf, || panic!("no fallback expected")).map(|t| t.n_vocab()).map_err(|e| e.to_string())
    };
    assert_eq!(refused(|_| ()), Ok(3));
    let twice = refused(|w| {
        w.add_kv("tokenizer.ggml.tokens", Value::Strs(["a", "b", "a"].into_iter().collect()));
    });
    assert!(twice.expect_err("a token twice").contains("both \"a\""));
    let few = refused(|w| {
        w.add_kv("tokenizer.ggml.token_type", Value::i32s(&[1]));
    });
    assert!(few.is_err());
    let none = refused(|w| {
        w.add_kv("tokenizer.ggml.merges", Value::Bool(true));
    });
    assert!(none.is_err());
}
