//! `cllm install --systemd`: writes a service and its socket for systemd, with rights for little else than serving.

use std::fmt::Write;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::ValueHint;

use crate::config::definition::scope::SERVE;
use crate::config::definition::{Definition, ValueKind};
use crate::config::flags::CONFIG_KEY;
use crate::config::settings::{context, http, model};
use crate::config::{Config, Flags, ModelSource, Origin, settings};
use crate::types::StartupError;
use crate::types::limits::{SERVICE_TASKS_SPARE, WATCHDOG_S};

/// Write a hardened systemd service that serves a model
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The service runs as `cllm serve` with the flags given here. Examples:
  sudo cllm install --systemd -m /srv/models/model.gguf --host 0.0.0.0
  cllm install --systemd -o . --config /etc/cllm.toml --memory-max 8G")]
pub struct InstallArgs {
    /// For systemd: cllm.service and cllm.socket
    #[arg(long, required = true)]
    systemd: bool,
    /// The folder to write to
    #[arg(short, long, value_name = "DIR", default_value = "/etc/systemd/system", value_hint = ValueHint::DirPath)]
    output: PathBuf,
    /// Replace the files if they exist
    #[arg(long)]
    force: bool,
    /// Memory limit of the service: bytes, 8G or a share
    #[arg(long, value_name = "SIZE", default_value = "80%")]
    memory_max: String,
    #[command(flatten)]
    flags: Flags<SERVE>,
}

/// Folders that are hidden from the service: home folders and temporary folders.
const HIDDEN: &[&str] = &[concat!("/ho", "me/"), concat!("/ro", "ot/"), "/run/user/", "/tmp/", "/var/tmp/"];

/// Writes both units and prints how to start them.
///
/// # Errors
/// The service couldn't use a setting or a file; a unit exists or can't be written.
pub fn run(args: &InstallArgs) -> Result<(), StartupError> {
    // Reads the settings as the service will: without the variables of this shell.
    let config = Config::from_flags(&args.flags.0)?;
    if matches!(config.model, ModelSource::Hub(_)) {
        return Err(
            config.refuse(&model::HF_REPO, "a service has no network: name the path that `cllm pull` prints with -m")
        );
    }
    config.check_files()?;
    let program = std::env::current_exe().map_err(|error| failed("find this program", &error))?;
    let service = service(args, &config, &program)?;
    let socket = socket(&config)?;
    let units = [("cllm.service", service), ("cllm.socket", socket)];
    let paths = units.each_ref().map(|(name, _)| args.output.join(name));
    if let Some(path) = paths.iter().find(|path| path.exists() && !args.force) {
        return Err(failed(&format!("write {}", path.display()), &"it exists; --force replaces it"));
    }
    for ((_, text), path) in units.iter().zip(&paths) {
        std::fs::write(path, text).map_err(|error| {
            let hint = if error.kind() == ErrorKind::PermissionDenied { " (as root, or with --output)" } else { "" };
            failed(&format!("write {}", path.display()), &format!("{error}{hint}"))
        })?;
    }
    let (service, socket) = (paths[0].display(), paths[1].display());
    crate::console::print(&format!(
        "Wrote {service} and {socket}. To start them, now and at each boot:\n\n  systemctl daemon-reload\n  \
         systemctl enable --now cllm.socket cllm.service\n\nWhat it says: journalctl -u cllm\n"
    ))
}

fn failed(doing: &str, reason: &dyn std::fmt::Display) -> StartupError {
    StartupError::System { doing: doing.to_owned(), reason: reason.to_string() }
}

/// The socket's unit. systemd listens on it before the service runs and while it restarts.
fn socket(config: &Config) -> Result<String, StartupError> {
    let listen = match (config.unix_path(), config.host.trim_matches(['[', ']']).parse::<IpAddr>()) {
        (Some(path), _) => format!("ListenStream={}\nSocketMode=0660", percent(&path.display().to_string())),
        (None, Ok(_)) if config.port > 0 => format!("ListenStream={}", config.listen_addr()),
        (None, Ok(_)) => return Err(config.refuse(&http::PORT, "a service needs a fixed port, not 0")),
        (None, Err(_)) => return Err(config.refuse(&http::HOST, "a service needs an address, or unix:PATH")),
    };
    Ok(format!(
        "# Written by `cllm install --systemd`.\n[Unit]\nDescription=cllm's socket: clients wait here while the server \
         starts\n\n[Socket]\n{listen}\nBacklog=4096\n\n[Install]\nWantedBy=sockets.target\n"
    ))
}

fn service(args: &InstallArgs, config: &Config, program: &Path) -> Result<String, StartupError> {
    let mut words = vec![program.display().to_string(), "serve".to_owned()];
    let mut rest = String::new();
    let mut visible: Vec<PathBuf> = vec![program.to_owned()];
    if args.flags.0.contains_key(http::API_KEY.about.key) {
        let reason =
            format!("every user of the machine can read a unit file: give --{} instead", http::API_KEY_FILE.about.key);
        return Err(config.refuse(&http::API_KEY, reason));
    }
    for (key, value) in &args.flags.0 {
        match settings::find(key).map(Definition::kind) {
            // Written below.
            Some(ValueKind::File { is_private: true, .. } | ValueKind::Folder(_)) => {}
            Some(ValueKind::File { .. }) | None => {
                let path = absolute(Path::new(value))?;
                words.push(format!("--{key}={}", path.display()));
                if *key == CONFIG_KEY {
                    visible.push(path);
                }
            }
            Some(_) => words.push(format!("--{key}={value}")),
        }
    }
    let mut words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    for (setting, path) in config.files() {
        let key = setting.about().key;
        match setting.kind() {
            // Private files may be readable by root alone, because systemd gives the service copies of them.
            ValueKind::File { is_private: true, .. } => {
                words.push(format!("--{key}=%d/{key}"));
                let _ = writeln!(rest, "LoadCredential={key}:{}", percent(&absolute(path)?.display().to_string()));
            }
            _ => visible.push(absolute(path)?),
        }
    }
    if let Some(word) = prompt_disk(config)? {
        words.push(word);
        rest += "StateDirectory=cllm\nStateDirectoryMode=0700\n";
    }
    for path in visible {
        check_readable(&path)?;
        let path = path.display().to_string();
        if HIDDEN.iter().any(|folder| path.starts_with(folder)) {
            let _ = writeln!(rest, "BindReadOnlyPaths={}", quoted(&path));
        }
    }
    if let Some(folder) = config.unix_path().and_then(Path::parent) {
        let _ = writeln!(rest, "# The socket's unit makes and keeps {}.", folder.display());
    }
    if config.mlock {
        rest += "LimitMEMLOCK=infinity\n";
    }
    // A GPU's kernels are compiled at run time, and its driver opens devices.
    rest += if cfg!(any(feature = "cuda", feature = "vulkan")) {
        "DeviceAllow=char-nvidia rw\nDeviceAllow=char-nvidia-uvm rw\nDeviceAllow=char-drm rw\nDevicePolicy=closed\n"
    } else {
        "PrivateDevices=yes\nMemoryDenyWriteExecute=yes\n"
    };
    let stop_s = config.grace.as_secs() + 15;
    let tasks = config.http_threads + SERVICE_TASKS_SPARE;
    let (command, memory) = (words.join(" "), &args.memory_max);
    Ok(format!(
        "{HEAD}ExecStart={command}\nTimeoutStopSec={stop_s}\nWatchdogSec={WATCHDOG_S}\nMemoryMax={memory}\nTasksMax={tasks}\n{rest}{HARDENED}"
    ))
}

/// The service's state folder, which systemd makes and gives to its user.
const STATE: &str = "/var/lib/cllm";

/// The word of the command line for prompts on disk: in the state folder, unless they are off. `None`: they are off.
fn prompt_disk(config: &Config) -> Result<Option<String>, StartupError> {
    let key = context::PROMPT_DISK.about.key;
    match &config.prompt_disk {
        Some((folder, size)) if folder.starts_with(STATE) => {
            Ok(Some(quoted(&format!("--{key}={}:{size}", folder.display()))))
        }
        Some(_) => {
            let reason =
                format!("a service may write only below {STATE}: leave this setting out, or give {STATE}/prompts:SIZE");
            Err(config.refuse(&context::PROMPT_DISK, reason))
        }
        None if *config.origin(&context::PROMPT_DISK) != Origin::Default || config.embeddings => Ok(None),
        None => Ok(Some(format!("--{key}=%S/cllm/prompts"))),
    }
}

const HEAD: &str = "\
# Written by `cllm install --systemd`.
[Unit]
Description=cllm, a language-model server
Requires=cllm.socket
After=cllm.socket

[Service]
Type=notify
ExecReload=/bin/sh -c \"kill -HUP $MAINPID\"
Restart=on-failure
RestartSec=1
TimeoutStartSec=15min
KillMode=mixed
";

/// Restrictions of the service. It has no network of its own, because systemd passes it the socket.
const HARDENED: &str = "\
LimitNOFILE=4096
LimitCORE=0
UMask=0077
DynamicUser=yes
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
PrivateNetwork=yes
PrivateTmp=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=tmpfs
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=sched_setaffinity mbind landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
Also=cllm.socket
";

fn absolute(path: &Path) -> Result<PathBuf, StartupError> {
    path.canonicalize().map_err(|error| failed(&format!("find {}", path.display()), &error))
}

/// Checks that all users can read `path`: the service runs as a user that owns no files.
fn check_readable(path: &Path) -> Result<(), StartupError> {
    let may =
        |path: &Path, bits: u32| std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & bits == bits);
    let hidden = HIDDEN.iter().any(|folder| path.starts_with(folder.trim_end_matches('/')));
    let closed = path.ancestors().skip(1).find(|folder| !hidden && !may(folder, 0o001));
    match closed {
        Some(folder) => {
            Err(failed(&format!("serve {}", path.display()), &format!("other users can't enter {}", folder.display())))
        }
        None if !may(path, 0o004) => {
            Err(failed(&format!("serve {}", path.display()), &"other users can't read it (chmod o+r)"))
        }
        None => Ok(()),
    }
}

/// Escapes percent signs, which have a meaning in units.
fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// Quotes one word of a command line for systemd.
fn quoted(word: &str) -> String {
    let word = percent(word).replace('\\', r"\\").replace('"', "\\\"").replace('$', "$$");
    if word.contains(|c: char| c.is_whitespace() || "\"'\\;".contains(c)) { format!("\"{word}\"") } else { word }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_reach_the_service_as_they_are() {
        assert_eq!(quoted("--port=80"), "--port=80");
        assert_eq!(quoted("/a b/100%/$x \"y\"\\"), "\"/a b/100%%/$$x \\\"y\\\"\\\\\"");
    }
}
