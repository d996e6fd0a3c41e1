//! A model in several files: all are fetched, the path of the first is returned, and llama.cpp finds the others.

use std::fs;

use cllm::gguf::{GgufFile, GgufWriter, Value};

use super::fake_hub::{FakeHub, Manners, REPO};
use super::{MODEL, World, printed};

/// The built-in model in two files. The first `lead` tensors are in the first file; with 0 it has none, as
/// `llama-gguf-split` can make it.
fn halves(lead: usize) -> [Vec<u8>; 2] {
    let whole = fs::read(MODEL).expect("the built-in model");
    let file = GgufFile::open(MODEL.as_ref()).expect("a GGUF");
    let count = file.tensors().len();
    [(0, 0..lead), (1, lead..count)].map(|(index, range)| {
        let mut writer = GgufWriter::new();
        if index == 0 {
            for key in file.keys() {
                writer.add_kv(key, file.get(key).expect("listed").clone());
            }
        }
        writer.add_kv("split.no", Value::U16(index)).add_kv("split.count", Value::U16(2));
        writer.add_kv("split.tensors.count", Value::I32(count as i32));
        let tensors = &file.tensors()[range];
        for tensor in tensors {
            writer.add_tensor(&tensor.name, &tensor.dims, tensor.ggml_type, tensor.bytes.expect("a known type"));
        }
        let mut stream = writer.start(Vec::new()).expect("written");
        for tensor in tensors {
            let at = (file.data_offset() + tensor.offset) as usize;
            stream.write(&whole[at..at + tensor.bytes.expect("a known type") as usize]).expect("written");
        }
        stream.finish().expect("written")
    })
}

#[test]
fn a_model_in_parts_is_fetched_whole_and_says_the_same() {
    for (name, lead) in [("split", 10), ("split-lead", 0)] {
        let (world, [first, second]) = (World::new(name), halves(lead));
        let names = ["tiny-Q8_0-00001-of-00002.gguf", "tiny-Q8_0-00002-of-00002.gguf"];
        let hub = FakeHub::start(
            &[(names[0], &first), (names[1], &second)],
            Manners { cuts: vec![1 << 20, 99_999], ..Manners::default() },
        );
        let path = printed(&world.run(&hub, &["pull", "Tiny/Model-GGUF:q8_0"]));
        assert!(path.ends_with(names[0]), "{path}");
        assert_eq!(printed(&world.run(&hub, &["pull", REPO, "--file", names[1]])), path, "any part names the model");
        assert_eq!(hub.sent(), first.len() + second.len());
        let ask =
            |model: &[&str]| printed(&world.run(&hub, &[&["generate", "--temp", "0", "Who are you?"], model].concat()));
        assert_eq!(ask(&["-hf", REPO]), ask(&[]));
        // Without its second file the cached model is incomplete, and the hub is asked.
        fs::remove_file(world.snapshot(names[1])).expect("removed");
        assert_eq!(printed(&world.run(&hub, &["pull", REPO])), path);
        assert!(world.snapshot(names[1]).exists());
    }
}
