//! The CPU that a program was compiled for, read from a section of its file.

use std::fs::File;
use std::io;
use std::path::Path;

use super::elf;

/// The instruction sets of x86-64-v3, by rustc's names, including those of every x86-64.
const X86_64_V3: &str = "avx,avx2,bmi1,bmi2,cmpxchg16b,f16c,fma,fxsr,lahfsahf,lzcnt,movbe,popcnt,sse,sse2,sse3,sse4.1,\
                         sse4.2,ssse3,xsave";

/// What `build.rs` wrote through `src/llama/cpu.c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltFor {
    /// `native`, or the name of a CPU such as `x86-64-v3`.
    pub cpu: String,
    /// Instruction sets that the program may use, by rustc's names.
    pub features: Vec<String>,
}

impl BuiltFor {
    /// Reads the section of the program at `path`; `None`: it is not cllm, or a version without this section.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn read(path: &Path) -> io::Result<Option<BuiltFor>> {
        let stamp = elf::section(&File::open(path)?, ".cllm_cpu")?;
        Ok(stamp.and_then(|stamp| BuiltFor::parse(&stamp)))
    }

    /// Parses the section: two texts, each ended by NUL.
    fn parse(stamp: &[u8]) -> Option<BuiltFor> {
        let mut texts = std::str::from_utf8(stamp).ok()?.split('\0');
        let (cpu, features) = (texts.next()?.to_owned(), texts.next()?);
        let features = features.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Some(BuiltFor { cpu, features })
    }

    /// Whether the program runs on every CPU of x86-64-v3.
    pub fn is_portable(&self) -> bool {
        let has = |name: &String| X86_64_V3.split(',').any(|known| known == name);
        !self.features.is_empty() && self.features.iter().all(has)
    }

    /// The machines that the program runs on, as words after "compiled for".
    pub fn machines(&self) -> &str {
        if self.cpu == "native" { "the CPU of one machine" } else { &self.cpu }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_what_x86_64_v3_has() {
        let parse = |stamp: &[u8]| BuiltFor::parse(stamp).expect("a stamp");
        assert!(parse(b"x86-64-v3\0avx2,fma,sse4.1\0").is_portable());
        assert!(parse(b"generic\0sse,sse2,fxsr\0").is_portable());
        assert!(!parse(b"native\0avx2,avx512f\0").is_portable());
        assert!(!parse(b"x86-64-v3\0\0").is_portable(), "nothing is known of it");
        assert_eq!(BuiltFor::parse(b"generic"), None);
        assert_eq!(parse(b"native\0avx2,fma\0").features, ["avx2", "fma"]);
    }
}
