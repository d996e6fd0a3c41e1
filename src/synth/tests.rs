//! Tests shapes, mixes and files with `gguf`'s reader. `tests/cli.rs` loads such files with llama.cpp.

use super::*;
use crate::gguf::GgufFile;
use crate::llama::quantize::TensorType;

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cllm-synth-{}-{name}.gguf", std::process::id()))
}

#[test]
fn shapes_have_the_sizes_of_their_models() {
    let million = |name: &str| ModelShape::named(name).unwrap().parameters() / 1_000_000;
    // The published numbers of parameters: 0.6B, 1.7B, 4.0B, 8.2B; 1.24B, 3.21B, 8.03B.
    assert_eq!(
        [million("qwen3-0.6b"), million("qwen3-1.7b"), million("qwen3-4b"), million("qwen3-8b")],
        [596, 1720, 4022, 8190]
    );
    // 22.6M and 109M are published. These include a pooler, which embeddings don't use.
    assert_eq!([million("minilm-l6"), million("bge-base")], [22, 108]);
    assert_eq!([million("llama-3.2-1b"), million("llama-3.2-3b"), million("llama-3.1-8b")], [1235, 3212, 8030]);
    // 354M, 129M and 268M are published.
    assert_eq!([million("lfm2-350m"), million("mamba-130m"), million("gemma3-270m")], [354, 129, 268]);
    // GPT-OSS 20B, of which `gpt-oss-tiny` has the parts: 20.9B is published.
    let wide = ModelShape {
        layers: 24,
        embd: 2880,
        heads: 64,
        kv_heads: 8,
        ffn: 2880,
        experts: 32,
        vocab: 201_088,
        ..ModelShape::named("gpt-oss-tiny").unwrap()
    };
    assert_eq!(wide.parameters() / 1_000_000, 20_914);
    for shape in shape::SHAPES {
        assert_eq!(shape.check(), Ok(()), "{}", shape.name);
    }
}

#[test]
fn q4_k_m_mixes_as_llama_cpp_does() {
    let shape = ModelShape::named("qwen3-0.6b").unwrap();
    let tensors = shape.tensors();
    let type_of = |name: &str| {
        let tensor = tensors.iter().find(|tensor| tensor.name == format!("{name}.weight")).unwrap();
        Quant::Q4KM.type_of(tensor, &shape)
    };
    assert_eq!(type_of("token_embd"), TensorType::Q6K);
    assert_eq!(type_of("output_norm"), TensorType::F32);
    assert_eq!(type_of("blk.0.attn_q"), TensorType::Q4K);
    // Of 28 layers, 0-2 and 24-27 have more bits, and between them 5, 8, 11, ...
    let more: Vec<usize> =
        (0..28).filter(|layer| type_of(&format!("blk.{layer}.ffn_down")) == TensorType::Q6K).collect();
    assert_eq!(more, [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]);
    assert!((0..28).all(|layer| type_of(&format!("blk.{layer}.attn_v")) == type_of(&format!("blk.{layer}.ffn_down"))));
}

#[test]
fn rows_that_fill_no_block_get_a_smaller_one() {
    let narrow = ModelShape { embd: 320, ffn: 96, tied: true, ..ModelShape::named("tiny").unwrap() };
    for shape in shape::SHAPES.iter().chain([&narrow]) {
        for quant in [Quant::F16, Quant::Q8_0, Quant::Q6K, Quant::Q5KM, Quant::Q4KM, Quant::Q4_0] {
            for tensor in shape.tensors() {
                let ty = quant.type_of(&tensor, shape);
                assert!(tensor.width().is_multiple_of(ty.block_elements()), "{quant:?} {}", tensor.name);
            }
        }
    }
}

#[test]
fn impossible_shapes_name_their_flag() {
    let tiny = ModelShape::named("tiny").unwrap();
    assert_eq!(ModelShape { kv_heads: 3, ..tiny }.check().unwrap_err().0, "--kv-heads");
    assert_eq!(ModelShape { embd: 100, ..tiny }.check().unwrap_err().0, "--embd");
    assert_eq!(ModelShape { layers: 0, ..tiny }.check().unwrap_err().0, "--layers");
    assert_eq!(ModelShape { vocab: 100, ..tiny }.check().unwrap_err().0, "--vocab");
    let named = |name: &str| ModelShape::named(name).unwrap();
    assert_eq!(ModelShape { heads: 8, ..named("lfm2-tiny") }.check().unwrap_err().0, "--head-dim");
    assert_eq!(ModelShape { heads: 8, ..named("mamba-tiny") }.check().unwrap_err().0, "--heads");
    assert_eq!(ModelShape { tied: true, ..named("gpt-oss-tiny") }.check().unwrap_err().0, "--tied");
    let bert = ModelShape::named("bert-tiny").unwrap();
    assert_eq!(ModelShape { head_dim: 64, ..bert }.check().unwrap_err().0, "--head-dim");
    assert_eq!(ModelShape { tied: false, ..bert }.check().unwrap_err().0, "--tied");
    assert_eq!(ModelShape { vocab: 140, ..bert }.check().unwrap_err().0, "--vocab");
}

#[test]
fn the_same_seed_gives_the_same_file_and_another_seed_another() {
    let bytes = |name: &str, seed| {
        let path = scratch(name);
        Spec::named("tiny", Quant::Q4KM, seed).unwrap().write(&path, true, |_| {}).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(path).unwrap();
        bytes
    };
    let first = bytes("a", 1);
    assert!(first == bytes("b", 1) && first != bytes("c", 2));
}

#[test]
fn a_file_is_never_replaced_unasked_and_reads_back() {
    let path = scratch("whole");
    let spec = Spec::named("tiny", Quant::Q8_0, 7).unwrap();
    let mut heard = 0;
    spec.write(&path, false, |bytes| heard += bytes).unwrap();
    assert_eq!(heard, spec.data_bytes());
    assert!(spec.write(&path, false, |_| {}).unwrap_err().to_string().contains("--force"));
    spec.write(&path, true, |_| {}).unwrap();

    let file = GgufFile::open(&path).unwrap();
    file.check_complete().unwrap();
    assert_eq!(file.u64("qwen3.block_count"), Some(2));
    assert_eq!(file.tensors().len(), spec.shape.tensors().len());
    let vocab = SynthVocab::copied(&file, 3000).unwrap();
    assert_eq!(vocab.len(), 3000);
    assert_eq!(SynthVocab::copied(&file, 10).unwrap().len(), 2048);
    fs::remove_file(path).unwrap();
}

#[test]
fn tokens_of_a_made_up_vocabulary_are_unique_and_their_merges_known() {
    for len in [alphabet::SIZE_MIN, 300, 2048, 151_936] {
        let vocab = SynthVocab::synthetic(len);
        let mut writer = GgufWriter::new();
        vocab.describe(&mut writer);
        let bytes = writer.into_bytes();
        let file = GgufFile::read(&bytes[..], bytes.len() as u64, Path::new("vocab")).unwrap();
        let tokens: std::collections::HashSet<&[u8]> = file.strs("tokenizer.ggml.tokens").unwrap().iter().collect();
        assert_eq!(tokens.len(), len);
        for merge in file.strs("tokenizer.ggml.merges").unwrap().iter() {
            let (a, b) = std::str::from_utf8(merge).unwrap().split_once(' ').unwrap();
            let whole = [a, b].concat();
            assert!([a, b, &whole].iter().all(|token| tokens.contains(token.as_bytes())), "{a} + {b}");
        }
    }
}

#[test]
fn a_made_up_wordpiece_vocabulary_takes_every_text_apart() {
    for len in [alphabet::WORDPIECE_SIZE_MIN, 300, 2048, 30_522] {
        let vocab = SynthVocab::wordpiece(len);
        let mut writer = GgufWriter::new();
        vocab.describe(&mut writer);
        let bytes = writer.into_bytes();
        let file = GgufFile::read(&bytes[..], bytes.len() as u64, Path::new("vocab")).unwrap();
        let tokens: std::collections::HashSet<&[u8]> = file.strs("tokenizer.ggml.tokens").unwrap().iter().collect();
        assert_eq!(tokens.len(), len);
        for c in (b'!'..=b'~').filter(|c| !c.is_ascii_uppercase()) {
            let within = [c];
            let at_start = ["\u{2581}".as_bytes(), &within].concat();
            assert!(tokens.contains(&within[..]) && tokens.contains(&at_start[..]), "{}", char::from(c));
        }
    }
}
