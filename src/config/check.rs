//! Checks that the files named in the configuration exist and can be opened. The only check that reads from a disk.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Config;
use super::settings::model::MODEL;
use crate::types::StartupError;

impl Config {
    /// Opens each named file, and reads the first bytes of the model. The rest of the model is checked when it is loaded.
    ///
    /// # Errors
    /// `StartupError::Model` for the model, `StartupError::Config` for the other files.
    pub fn check_files(&self) -> Result<(), StartupError> {
        if let Some(path) = self.model_path() {
            check_gguf(path).map_err(|reason| StartupError::Model { path: path.to_owned(), reason })?;
        }
        for (setting, path) in self.files().filter(|(setting, _)| setting.about().key != MODEL.about.key) {
            open(path).map_err(|reason| self.refuse(setting, format!("{}: {reason}", path.display())))?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    match file.metadata() {
        Ok(about) if about.is_dir() => Err("is a folder".to_owned()),
        Ok(_) => Ok(file),
        Err(error) => Err(error.to_string()),
    }
}

fn check_gguf(path: &Path) -> Result<(), String> {
    let mut magic = [0; 4];
    match open(path)?.read_exact(&mut magic) {
        Ok(()) if &magic == b"GGUF" => Ok(()),
        _ => Err("not a GGUF file".to_owned()),
    }
}
