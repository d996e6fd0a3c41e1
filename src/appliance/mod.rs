//! An appliance: one executable that carries a model and its configuration. This room writes and reads it.
//!
//! ```text
//! program | mark | zeros to 64 KiB | model | zeros to 64 KiB | prompts | warm | configuration | manifest (JSON) | manifest's bytes, its SHA-256, mark
//! ```
//!
//! The manifest gives each part's place and SHA-256. The first mark is where the ELF ends. A program with that mark and without a
//! valid manifest was truncated or changed, and doesn't start. Runs on the main thread, before anything else.

mod built_for;
mod elf;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use built_for::BuiltFor;

use crate::types::StartupError;
use crate::types::limits::MANIFEST_BYTES_MAX;

const MARK: &[u8; 16] = b"cllm-appliance-1";
/// Bytes of the footer: the manifest's length (u64, little-endian), its SHA-256, and the mark.
const FOOTER_BYTES: u64 = 8 + 32 + 16;
/// The model and the prompts start at a multiple of this, so that they can be mapped. It is the largest page of Linux on the machines we
/// know.
const ALIGNMENT: u64 = 64 << 10;

/// A part of the appliance: the bytes `offset..offset + bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliancePart {
    /// The first byte of the part in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of the part, in hexadecimal.
    pub sha256: String,
}

/// The parts of an appliance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The program, an ELF executable.
    pub program: AppliancePart,
    /// The model, GGUF; `None`: there is none.
    pub model: Option<AppliancePart>,
    /// Blocks of KV state (`prompts::carried`). Older appliances have none.
    #[serde(default)]
    pub prompts: Option<AppliancePart>,
    /// The texts of these prompts (`bundle --warm`), which are put into the KV cache before it serves. Older appliances have none.
    #[serde(default)]
    pub warm: Option<AppliancePart>,
    /// The configuration, TOML; `None`: there is none.
    pub config: Option<AppliancePart>,
}

/// An appliance with a valid manifest. `verify` and `verify_part` compare the parts' content with it.
#[derive(Debug)]
pub struct Appliance {
    /// The executable.
    pub path: PathBuf,
    /// The list of its parts.
    pub manifest: Manifest,
    /// The text of the configuration, already compared with its SHA-256; empty if there is none.
    pub config: String,
    /// The file of prompts to begin behind, likewise.
    pub warm: String,
}

/// The appliance in this process's executable; `None`: the executable carries nothing.
///
/// # Errors
/// The executable was truncated or changed.
pub fn own() -> Result<Option<&'static Appliance>, StartupError> {
    static OWN: OnceLock<Result<Option<Appliance>, String>> = OnceLock::new();
    match OWN.get_or_init(|| own_path().map_or(Ok(None), |path| read(&path))) {
        Ok(appliance) => Ok(appliance.as_ref()),
        Err(reason) => Err(damaged(reason.clone())),
    }
}

/// The path of this executable. Without `/proc`, as in an empty root directory, it is the path that the kernel was told to
/// execute.
pub fn own_path() -> Option<PathBuf> {
    std::env::current_exe().ok().or_else(|| executed().filter(|path| path.is_file()))
}

#[cfg(target_os = "linux")]
fn executed() -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(std::ffi::OsStr::from_bytes(rustix::param::linux_execfn().to_bytes()).into())
}

#[cfg(not(target_os = "linux"))]
fn executed() -> Option<PathBuf> {
    None
}

/// The appliance at `path`; `None`: the program carries nothing.
///
/// # Errors
/// Why it can't be used, in one line.
pub fn read(path: &Path) -> Result<Option<Appliance>, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let broken = |error: io::Error| format!("{}: {error}", path.display());
    let file_bytes = file.metadata().map_err(broken)?.len();
    let Some(program_end) = elf::end(&file).map_err(broken)? else { return Ok(None) };
    if program_end > file_bytes {
        return Err(format!("{} is truncated within its program: copy it again", path.display()));
    }
    if file_bytes - program_end < MARK.len() as u64 {
        return match file_bytes - program_end {
            0 => Ok(None),
            _ => Err(format!("{} is truncated behind its program: copy it again", path.display())),
        };
    }
    if &elf::array::<16>(&file, program_end).map_err(broken)? != MARK {
        return Ok(None);
    }
    let manifest = manifest(&file, file_bytes).ok_or_else(|| {
        format!("{} is truncated or altered, because its manifest isn't valid: copy it again", path.display())
    })?;
    let mut appliance = Appliance { path: path.to_owned(), manifest, config: String::new(), warm: String::new() };
    appliance.config = appliance.text(appliance.manifest.config.as_ref(), "configuration")?;
    appliance.warm = appliance.text(appliance.manifest.warm.as_ref(), "warm prompts")?;
    Ok(Some(appliance))
}

/// The manifest, if its SHA-256 is right and all parts are inside the file.
fn manifest(file: &File, file_bytes: u64) -> Option<Manifest> {
    let footer = file_bytes.checked_sub(FOOTER_BYTES)?;
    if &elf::array::<16>(file, footer + 40).ok()? != MARK {
        return None;
    }
    let bytes = u64::from_le_bytes(elf::array(file, footer).ok()?);
    let digest: [u8; 32] = elf::array(file, footer + 8).ok()?;
    let offset = footer.checked_sub(bytes).filter(|_| bytes <= MANIFEST_BYTES_MAX)?;
    let mut text = vec![0; bytes as usize];
    file.read_exact_at(&mut text, offset).ok()?;
    if Sha256::digest(&text)[..] != digest {
        return None;
    }
    let manifest: Manifest = serde_json::from_slice(&text).ok()?;
    let within = |part: &AppliancePart| part.offset.checked_add(part.bytes).is_some_and(|end| end <= offset);
    let sound = manifest.parts().all(|(_, part)| within(part));
    sound.then_some(manifest)
}

impl Manifest {
    /// The parts that exist, by name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &AppliancePart)> {
        let rest = [
            ("model", self.model.as_ref()),
            ("prompts", self.prompts.as_ref()),
            ("warm prompts", self.warm.as_ref()),
            ("configuration", self.config.as_ref()),
        ];
        [("program", &self.program)].into_iter().chain(rest.into_iter().filter_map(|(name, part)| Some((name, part?))))
    }
}

impl Appliance {
    /// Compares every part with its SHA-256. `progress` gets the number of bytes of each read.
    ///
    /// # Errors
    /// The part that was altered.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<(), String> {
        self.manifest.parts().try_for_each(|(name, part)| self.verify_part(part, name, &mut progress))
    }

    /// Compares one part with its SHA-256.
    ///
    /// # Errors
    /// The part was altered, or can't be read.
    pub fn verify_part(&self, part: &AppliancePart, name: &str, progress: impl FnMut(u64)) -> Result<(), String> {
        self.copy_part(part, name, &mut io::sink(), progress)
    }

    /// Copies one part to `to`, and compares the SHA-256 of the bytes that were copied.
    ///
    /// # Errors
    /// The part was altered, or copying failed; `to` may then hold a beginning of it.
    pub fn copy_part(
        &self,
        part: &AppliancePart,
        name: &str,
        to: &mut impl Write,
        progress: impl FnMut(u64),
    ) -> Result<(), String> {
        let broken = |error: io::Error| format!("{}: {error}", self.path.display());
        let copied = copy(&mut self.reader(part).map_err(broken)?, to, progress).map_err(broken)?;
        if copied.1 != part.sha256 {
            return Err(format!(
                "{} was altered: the SHA-256 of its {name} is not the manifest's",
                self.path.display()
            ));
        }
        Ok(())
    }

    /// The text of a small part, compared with its SHA-256; empty if there is no such part.
    fn text(&self, part: Option<&AppliancePart>, name: &str) -> Result<String, String> {
        let Some(part) = part else { return Ok(String::new()) };
        let mut text = Vec::new();
        self.copy_part(part, name, &mut text, |_| {})?;
        String::from_utf8(text).map_err(|_| format!("the {name} of {} are no UTF-8", self.path.display()))
    }

    fn reader(&self, part: &AppliancePart) -> io::Result<impl Read + use<>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(part.offset))?;
        Ok(file.take(part.bytes))
    }
}

/// Copies `from` to `to`. Returns the number of bytes and their SHA-256 in hexadecimal.
fn copy(from: &mut impl Read, to: &mut impl Write, mut progress: impl FnMut(u64)) -> io::Result<(u64, String)> {
    let (mut buffer, mut bytes, mut digest) = (vec![0; 1 << 20], 0, Sha256::new());
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
        bytes += n as u64;
        progress(n as u64);
    }
    Ok((bytes, digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// The contents of a new appliance.
pub struct Bundle<'a> {
    /// The program. If it carries a model itself, that is left out.
    pub program: &'a Path,
    /// The file of the model, GGUF; `None`: no model is carried.
    pub model: Option<&'a Path>,
    /// A file of blocks of KV state (`prompts::carried`).
    pub prompts: Option<&'a Path>,
    /// What these are the blocks of.
    pub warm: Option<&'a Path>,
    /// The configuration's text, TOML.
    pub config: Option<&'a str>,
}

impl Bundle<'_> {
    /// Writes the appliance to `path`. It is written to a file beside `path` first, so that `path` is complete or absent.
    ///
    /// # Errors
    /// `path` exists and `overwrite` is false, or something can't be read or written.
    pub fn write(&self, path: &Path, overwrite: bool, progress: impl FnMut(u64)) -> Result<Manifest, StartupError> {
        let refuse = |reason: String| StartupError::System { doing: format!("write {}", path.display()), reason };
        if !overwrite && path.exists() {
            return Err(refuse("it exists; --force replaces it".to_owned()));
        }
        // The name contains the process's id, so that two processes never write into one file.
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        let written = self.write_parts(&partial, progress);
        let moved = written.and_then(|manifest| fs::rename(&partial, path).map(|()| manifest));
        moved.map_err(|error| {
            let _ = fs::remove_file(&partial);
            refuse(error.to_string())
        })
    }

    fn write_parts(&self, path: &Path, mut progress: impl FnMut(u64)) -> io::Result<Manifest> {
        let program = File::open(self.program)?;
        let program_end =
            elf::end(&program)?.ok_or_else(|| io::Error::other("only an ELF program can carry a model"))?;
        let mut out = BufWriter::new(File::create(path)?);
        let mut append = |out: &mut BufWriter<File>, from: &mut dyn Read| {
            let offset = out.stream_position()?;
            let (bytes, sha256) = copy(&mut { from }, out, &mut progress)?;
            io::Result::Ok(AppliancePart { offset, bytes, sha256 })
        };
        let program = append(&mut out, &mut program.take(program_end))?;
        out.write_all(MARK)?;
        let mut append_aligned = |out: &mut BufWriter<File>, part: Option<&Path>| {
            let Some(part) = part else { return Ok(None) };
            let at = out.stream_position()?;
            out.write_all(&vec![0; (at.next_multiple_of(ALIGNMENT) - at) as usize])?;
            append(out, &mut File::open(part)?).map(Some)
        };
        let model = append_aligned(&mut out, self.model)?;
        let prompts = append_aligned(&mut out, self.prompts)?;
        let warm = self.warm.map(File::open).transpose()?;
        let warm = warm.map(|mut file| append(&mut out, &mut file)).transpose()?;
        let config = self.config.map(|text| append(&mut out, &mut text.as_bytes())).transpose()?;
        let manifest = Manifest { program, model, prompts, warm, config };
        let text = serde_json::to_vec(&manifest)?;
        out.write_all(&text)?;
        out.write_all(&(text.len() as u64).to_le_bytes())?;
        out.write_all(&Sha256::digest(&text))?;
        out.write_all(MARK)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
        file.sync_all()?;
        Ok(manifest)
    }
}

/// The error of a damaged appliance, in one line.
pub fn damaged(reason: String) -> StartupError {
    StartupError::System { doing: "read the appliance".to_owned(), reason }
}
