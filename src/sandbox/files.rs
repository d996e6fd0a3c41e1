//! Limits which files may be opened, with Landlock. If the kernel supports it, also refuses TCP, signals to other
//! processes, and their abstract sockets.

use std::fmt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Needs;

/// The newest version of Landlock that was tested here. An older kernel ignores rights that it doesn't know.
const KNOWN: ABI = ABI::V7;

/// Rules that are prepared and not yet in force.
pub struct FileRules(RulesetCreated);

/// What the kernel enforces: the number of Landlock's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforced {
    /// The number of Landlock's version, from 1.
    pub abi: i32,
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "landlock ABI {}", self.abi)
    }
}

impl FileRules {
    /// Prepares rules that allow only what `needs` lists. Its folders are looked up now.
    ///
    /// # Errors
    /// Why the kernel can't do that.
    pub fn new(needs: &Needs) -> Result<FileRules, String> {
        let rules = || -> Result<RulesetCreated, RulesetError> {
            let mut rules = Ruleset::default()
                // The rules for files must be supported. The others are applied as far as the kernel supports them.
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(AccessFs::from_all(ABI::V1))?
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(KNOWN))?
                .handle_access(AccessNet::from_all(KNOWN))?
                .scope(Scope::from_all(KNOWN))?
                .create()?;
            // Files in these folders can be read. The folders themselves can't be listed.
            for path in &needs.readable {
                rules = allow(rules, path, AccessFs::ReadFile)?;
            }
            if let Some(folder) = &needs.removable {
                rules = allow(rules, folder, AccessFs::RemoveFile)?;
            }
            if let Some(folder) = &needs.own {
                let access = AccessFs::ReadDir | AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::MakeReg;
                rules = allow(rules, folder, access | AccessFs::RemoveFile)?;
            }
            Ok(rules)
        };
        rules().map(FileRules).map_err(|error| one_line(&error))
    }

    /// Puts the rules in force for the calling thread and for threads that it starts later.
    ///
    /// # Errors
    /// Why the kernel refuses.
    pub fn enforce(self) -> Result<Enforced, String> {
        let status = self.0.restrict_self().map_err(|error| one_line(&error))?;
        match status.landlock {
            _ if status.ruleset == RulesetStatus::NotEnforced => Err("this kernel doesn't support it".to_owned()),
            LandlockStatus::Available { effective_abi, kernel_abi } => {
                Ok(Enforced { abi: kernel_abi.unwrap_or(effective_abi as i32) })
            }
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => {
                Err("this kernel doesn't support it".to_owned())
            }
        }
    }
}

/// Allows `access` below `path`. If `path` doesn't exist, there is nothing to allow.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: impl Into<BitFlags<AccessFs>>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(folder) => rules.add_rule(PathBeneath::new(folder, access)),
        Err(_) => Ok(rules),
    }
}

fn one_line(error: &dyn fmt::Display) -> String {
    error.to_string().replace('\n', " ")
}
