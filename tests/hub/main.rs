//! Models by name: runs `cllm pull` and `-hf` against a fake hub, which loses connections, announces wrong values and
//! refuses.
#![cfg(feature = "hub")]

mod fake_hub;
mod split;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fake_hub::{COMMIT, FakeHub, Manners, REPO, sha256};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vendor/model/cllm-tiny.gguf");
/// A test fails after this time, because the program must be hanging.
const HANG: Duration = Duration::from_secs(60);

/// A folder for a cache and other files of a test, removed at the end.
struct World(PathBuf);

impl World {
    fn new(name: &str) -> World {
        let folder = std::env::temp_dir().join(format!("cllm-hub-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        World(folder)
    }

    /// `cllm` with an empty home folder, and without the variables of this shell that would affect it.
    fn command(&self, endpoint: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
        let heeded = |name: &str| {
            ["CLLM_", "HF_", "HUGGING", "SSL_"].iter().any(|start| name.starts_with(start)) || name.ends_with("_proxy")
        };
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if heeded(&name) || heeded(&name.to_ascii_lowercase()) || name == "XDG_CACHE_HOME" {
                command.env_remove(name);
            }
        }
        command.env("HOME", &self.0).env("HF_ENDPOINT", endpoint).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, hub: &FakeHub, args: &[&str]) -> Output {
        self.command(&hub.endpoint(), args).output().expect("the program runs")
    }

    fn spawn(&self, hub: &FakeHub, args: &[&str]) -> Child {
        let mut command = self.command(&hub.endpoint(), args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs")
    }

    fn repo(&self) -> PathBuf {
        self.0.join(".cache/huggingface/hub/models--Tiny--Model-GGUF")
    }

    fn snapshot(&self, file: &str) -> PathBuf {
        self.repo().join("snapshots").join(COMMIT).join(file)
    }

    fn blob(&self, bytes: &[u8], suffix: &str) -> PathBuf {
        self.repo().join("blobs").join(sha256(bytes) + suffix)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The output of a successful run.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).expect("UTF-8").trim_end().to_owned()
}

/// Checks a refusal: exit code 1, nothing on stdout, and a last line that contains `named`.
fn refused(output: &Output, named: &str) {
    let stderr = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty(), "wrote to stdout");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("cllm: ") && last.contains(named), "doesn't say {named:?}: {stderr}");
}

/// Bytes that are no model. No test loads them.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn a_model_lands_where_the_other_tools_look_and_is_fetched_once() {
    let (world, bytes) = (World::new("lands"), noise(300_000));
    let hub = FakeHub::start(
        &[("q/m-Q4_K_M.gguf", &bytes), ("mmproj-Q4_K_M.gguf", b"no"), ("m-Q8_0.gguf", b"no")],
        Manners::default(),
    );
    let path = printed(&world.run(&hub, &["pull", "Tiny/Model-GGUF:q4_k_m"]));
    assert_eq!(Path::new(&path), world.snapshot("q/m-Q4_K_M.gguf"));
    assert_eq!(fs::read(&path).expect("it is there"), bytes);
    // The exact layout, which Python's huggingface_hub also reads.
    let link = fs::read_link(&path).expect("a link");
    assert_eq!(link, Path::new("../../../blobs").join(sha256(&bytes)));
    assert_eq!(fs::read_to_string(world.repo().join("refs/main")).expect("a ref"), COMMIT);
    assert_eq!(hub.sent(), bytes.len());

    let asked = hub.seen().len();
    for name in ["Tiny/Model-GGUF:Q4_K_M", REPO] {
        assert_eq!(printed(&world.run(&hub, &["pull", name])), path);
    }
    assert_eq!(printed(&world.run(&hub, &["pull", REPO, "--file", "q/m-Q4_K_M.gguf"])), path);
    assert_eq!(hub.seen().len(), asked, "what is there needs no request");
    assert_eq!(printed(&world.run(&hub, &["pull", REPO, "--file", "q/m-Q4_K_M.gguf", "--update"])), path);
    assert_eq!((hub.seen().len(), hub.sent()), (asked + 1, bytes.len()), "asked, but nothing to download");
    // The blob is removed, so that the link leads to no file.
    fs::remove_file(world.blob(&bytes, "")).expect("removed");
    assert_eq!(fs::read(printed(&world.run(&hub, &["pull", REPO]))).expect("again there"), bytes);
}

#[test]
fn a_connection_lost_half_way_goes_on_there() {
    let (world, bytes) = (World::new("cut"), noise(1_000_000));
    let hub =
        FakeHub::start(&[("m-Q4_K_M.gguf", &bytes)], Manners { cuts: vec![500_000, 0, 250_000], ..Manners::default() });
    let output = world.run(&hub, &["pull", REPO]);
    assert_eq!(fs::read(printed(&output)).expect("it is there"), bytes);
    let ranges: Vec<_> = hub.ranges().into_iter().map(Option::unwrap_or_default).collect();
    assert_eq!(ranges, ["", "bytes=500000-", "bytes=500000-", "bytes=750000-"]);
    assert_eq!(hub.sent(), bytes.len(), "no byte twice");
    assert!(stderr(&output).contains("going on at 488.28 KiB of 976.56 KiB"), "{}", stderr(&output));
}

#[test]
fn a_killed_download_goes_on_in_the_next_process() {
    let (world, bytes) = (World::new("killed"), noise(2_000_000));
    let slow = Manners { pause: Duration::from_millis(30), ..Manners::default() };
    let hub = FakeHub::start(&[("m-Q4_K_M.gguf", &bytes)], slow);
    let mut child = world.spawn(&hub, &["pull", REPO]);
    let (part, started) = (world.blob(&bytes, ".part"), Instant::now());
    while fs::metadata(&part).map_or(0, |about| about.len()) < 500_000 {
        assert!(started.elapsed() < HANG, "nothing arrives");
        sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    assert_eq!(child.wait().expect("ended").signal(), Some(9));
    let have = fs::metadata(&part).expect("kept").len();
    assert!(
        have < bytes.len() as u64 && !world.snapshot("m-Q4_K_M.gguf").exists() && !world.repo().join("refs").exists()
    );
    hub.behave(Manners::default());
    let output = world.run(&hub, &["pull", REPO]);
    assert_eq!(fs::read(printed(&output)).expect("it is there"), bytes);
    assert_eq!(hub.ranges().last(), Some(&Some(format!("bytes={have}-"))));
    assert!(!part.exists());
}

#[test]
fn a_server_that_knows_no_ranges_is_read_from_the_beginning() {
    let (world, bytes) = (World::new("ranges"), noise(600_000));
    let manners = Manners { cuts: vec![400_000], ignores_ranges: true, ..Manners::default() };
    let hub = FakeHub::start(&[("m-Q4_K_M.gguf", &bytes)], manners);
    assert_eq!(fs::read(printed(&world.run(&hub, &["pull", REPO]))).expect("it is there"), bytes);
    assert_eq!(hub.sent(), 1_000_000);
}

#[test]
fn what_arrives_damaged_is_refused_and_removed() {
    let (world, bytes) = (World::new("damaged"), noise(100_000));
    let hub = FakeHub::start(&[("m-Q4_K_M.gguf", &bytes)], Manners { lies: true, ..Manners::default() });
    let output = world.run(&hub, &["pull", REPO]);
    refused(
        &output,
        &format!(
            "arrived damaged and was removed: its SHA-256 is {}, the hub says {}",
            sha256(&bytes),
            sha256(b"another")
        ),
    );
    let left: Vec<_> =
        fs::read_dir(world.repo().join("blobs")).expect("blobs").flatten().map(|entry| entry.path()).collect();
    assert!(left.iter().all(|path| path.extension().is_some_and(|ending| ending == "lock")), "{left:?}");
    assert!(!world.repo().join("snapshots").exists() && !world.repo().join("refs").exists());

    // A part that was changed between two attempts is also detected.
    hub.behave(Manners::default());
    fs::write(world.blob(&bytes, ".part"), noise(100).repeat(500)).expect("written");
    refused(&world.run(&hub, &["pull", REPO]), "arrived damaged");
    assert_eq!(fs::read(printed(&world.run(&hub, &["pull", REPO]))).expect("at last"), bytes);
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let (world, bytes) = (World::new("token"), noise(100_000));
    let hub = FakeHub::start(&[("m-Q4_K_M.gguf", &bytes)], Manners { token: Some("hf_right"), ..Manners::default() });
    refused(&world.run(&hub, &["pull", REPO]), "no such repository, or a private one (HF_TOKEN is not set)");
    let wrong = world.command(&hub.endpoint(), &["pull", REPO]).env("HF_TOKEN", "hf_wrong").output().expect("it runs");
    refused(&wrong, "doesn't know the token in HF_TOKEN");
    assert!(!stderr(&wrong).contains("hf_wrong"), "{}", stderr(&wrong));
    // The token is kept on a redirect of the hub to itself.
    let right =
        world.command(&hub.endpoint(), &["pull", "Old/Name"]).env("HF_TOKEN", "hf_right").output().expect("it runs");
    refused(&right, "has no branch `main` of it");
    let right = world.command(&hub.endpoint(), &["pull", REPO]).env("HF_TOKEN", "hf_right").output().expect("it runs");
    assert_eq!(fs::read(printed(&right)).expect("it is there"), bytes);
    let seen = hub.seen();
    let renamed: Vec<_> = seen.iter().skip_while(|seen| !seen.path.contains("Old/Name")).take(2).collect();
    assert!(renamed.iter().all(|seen| seen.authorization.as_deref() == Some("Bearer hf_right")), "{renamed:?}");
    let (elsewhere, here): (Vec<_>, Vec<_>) = seen.into_iter().partition(|seen| seen.is_cdn);
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|seen| seen.authorization.is_none()), "{elsewhere:?}");
    assert!(
        here.iter().filter(|seen| seen.authorization.as_deref() == Some("Bearer hf_right")).count() >= 4,
        "{here:?}"
    );

    // The token can also come from the file that `hf auth login` writes.
    fs::remove_dir_all(world.repo()).expect("removed");
    fs::write(world.0.join(".cache/huggingface/token"), "hf_right\n").expect("written");
    printed(&world.run(&hub, &["pull", REPO]));
}

#[test]
fn whatever_is_wrong_is_said_in_one_line() {
    let world = World::new("wrong");
    let files: &[(&str, &[u8])] = &[("m-BF16.gguf", b"1"), ("m-Q8_0.gguf", b"2"), ("mmproj-F16.gguf", b"3")];
    let hub = FakeHub::start(files, Manners::default());
    refused(&world.run(&hub, &["pull", "Tiny/Other"]), "Tiny/Other: no such repository, or a private one");
    refused(
        &world.run(&hub, &["pull", "Tiny/Model-GGUF:Q4_K_M"]),
        "GGUF:Q4_K_M: not in the repository; there is BF16, Q8_0",
    );
    let other = world.run(&hub, &["pull", REPO, "--file", "x.gguf"]);
    refused(&other, "not in the repository; there is m-BF16.gguf, m-Q8_0.gguf");
    refused(&world.run(&hub, &["pull", "model.gguf"]), "\"model.gguf\" is no repository like ORG/NAME");
    refused(&world.run(&hub, &["pull", REPO, "--file", "../x.gguf"]), "no GGUF's name");
    let escape = world.run(&hub, &["pull", REPO, "--file", "../../../../escape.gguf"]);
    refused(&escape, "no GGUF's name");
    hub.behave(Manners { is_gated: true, token: Some("hf_right"), ..Manners::default() });
    refused(
        &world.run(&hub, &["pull", REPO]),
        &format!("is gated: accept its terms at {}/{REPO} first (HF_TOKEN is not set)", hub.endpoint()),
    );
    hub.behave(Manners { announces: Some(1 << 60), ..Manners::default() });
    refused(&world.run(&hub, &["pull", REPO]), "no room: 1.00 EiB must be downloaded");
    hub.behave(Manners { is_a_portal: true, ..Manners::default() });
    refused(&world.run(&hub, &["pull", REPO]), "answers oddly");
    let empty = FakeHub::start(&[("model.safetensors", b"1")], Manners::default());
    refused(&world.run(&empty, &["pull", REPO]), "it holds no GGUF of a model");

    let run = |endpoint: &str, vars: &[(&str, &str)]| {
        world.command(endpoint, &["pull", REPO]).envs(vars.iter().copied()).output().expect("the program runs")
    };
    refused(&run("http://127.0.0.1:9", &[]), "can't reach http://127.0.0.1:9: Connection refused");
    refused(&run("http://no.such.host.invalid", &[]), "can't reach http://no.such.host.invalid: ");
    refused(&run("mirror", &[]), "HF_ENDPOINT: \"mirror\" doesn't begin with https://");
    refused(&run("https://x", &[("SSL_CERT_FILE", MODEL)]), "SSL_CERT_FILE: ");
    let asked = hub.seen().len();
    refused(&run(&hub.endpoint(), &[("HF_HUB_OFFLINE", "1")]), "HF_HUB_OFFLINE is set, and ");
    let mut update = world.command(&hub.endpoint(), &["pull", REPO, "--update"]);
    refused(&update.env("HF_HUB_OFFLINE", "1").output().expect("it runs"), "an update needs the hub");
    assert_eq!(hub.seen().len(), asked);
}

#[test]
fn a_hub_that_stays_silent_is_given_up_and_what_came_is_kept() {
    let (world, bytes) = (World::new("silent"), noise(200_000));
    let hub = FakeHub::start(
        &[("m-Q4_K_M.gguf", &bytes)],
        Manners { cuts: vec![150_000, 0, 0, 0, 0, 0, 0, 0], ..Manners::default() },
    );
    refused(
        &world.run(&hub, &["pull", REPO]),
        "146.48 KiB of 195.31 KiB are kept, the next attempt goes on from there",
    );
    hub.behave(Manners::default());
    assert_eq!(fs::read(printed(&world.run(&hub, &["pull", REPO]))).expect("it is there"), bytes);
    assert_eq!(hub.sent(), bytes.len());
}

/// Without this check the download would never end.
#[test]
fn a_hub_that_begins_anew_and_never_gets_further_is_given_up() {
    let (world, bytes) = (World::new("further"), noise(200_000));
    let hub = FakeHub::start(
        &[("m-Q4_K_M.gguf", &bytes)],
        Manners { cuts: vec![150_000; 100], ignores_ranges: true, ..Manners::default() },
    );
    refused(&world.run(&hub, &["pull", REPO]), "146.48 KiB of 195.31 KiB are kept");
    assert_eq!(hub.ranges().len(), 6, "attempts");
}

#[test]
fn of_two_processes_one_downloads() {
    let (world, bytes) = (World::new("two"), noise(1_000_000));
    let slow = Manners { pause: Duration::from_millis(150), ..Manners::default() };
    let hub = FakeHub::start(&[("m-Q4_K_M.gguf", &bytes)], slow);
    let children = [0, 1].map(|_| world.spawn(&hub, &["pull", REPO]));
    let outputs = children.map(|child| child.wait_with_output().expect("it ends"));
    let paths = outputs.each_ref().map(printed);
    assert_eq!(paths[0], paths[1]);
    assert_eq!(fs::read(&paths[0]).expect("it is there"), bytes);
    assert_eq!((hub.sent(), hub.ranges().len()), (bytes.len(), 1), "one download");
    let waited = outputs.iter().filter(|output| stderr(output).contains("another process downloads it, waiting"));
    assert_eq!(waited.count(), 1);
}

#[test]
fn every_command_takes_the_name_and_a_cached_model_needs_no_request() {
    let (world, model) = (World::new("commands"), fs::read(MODEL).expect("the built-in model"));
    let hub = FakeHub::start(&[("tiny-Q8_0.gguf", &model)], Manners::default());
    let question = "How do I change the port?";
    let answer = printed(&world.run(&hub, &["generate", "-hf", REPO, "--temp", "0", question]));
    assert!(answer.contains("--port 9000"), "{answer}");
    assert_eq!(hub.sent(), model.len());
    let asked = hub.seen().len();
    // The output is the same byte for byte when the hub can't be reached.
    let gone = |args: &[&str], vars: &[(&str, &str)]| {
        world.command("http://127.0.0.1:9", args).envs(vars.iter().copied()).output().expect("the program runs")
    };
    assert_eq!(printed(&gone(&["generate", "-hf", "Tiny/Model-GGUF:Q8_0", "--temp", "0", question], &[])), answer);
    assert_eq!(printed(&gone(&["generate", "--temp", "0", question], &[("CLLM_HF_REPO", REPO)])), answer);
    let built_in = printed(&gone(&["encode", "Hello"], &[]));
    for flag in [["-hf", REPO], ["--hf", REPO], ["--hf-repo", REPO]] {
        assert_eq!(printed(&world.run(&hub, &["encode", flag[0], flag[1], "Hello"])), built_in);
    }
    fs::write(world.0.join("cllm.toml"), format!("hf-repo = \"{REPO}\"\nhf-file = \"tiny-Q8_0.gguf\"\n"))
        .expect("written");
    let config = world.0.join("cllm.toml").display().to_string();
    let numbers: Vec<&str> = built_in.split(' ').collect();
    assert_eq!(printed(&world.run(&hub, &[&["decode", "--config", &config], &numbers[..]].concat())), "Hello");
    assert!(printed(&world.run(&hub, &["info", "-hf", REPO])).contains("tiny-Q8_0.gguf"));
    let appliance = world.0.join("appliance").display().to_string();
    assert!(printed(&world.run(&hub, &["bundle", "-hf", REPO, "-o", &appliance])).contains("model 1."));
    let check = printed(&gone(&["serve", "-hf", "Tiny/Other:Q8_0", "--check"], &[]));
    assert!(check.contains("hf-repo = \"Tiny/Other:Q8_0\""), "looks, and downloads nothing: {check}");
    assert_eq!(hub.seen().len(), asked, "no request");

    for command in ["serve", "generate", "encode"] {
        let both = gone(&[command, "-m", MODEL, "-hf", REPO, "x"][..if command == "serve" { 5 } else { 6 }], &[]);
        refused(&both, "--model: can't be used with --hf-repo");
    }
    refused(&gone(&["info", "-hf", REPO, MODEL], &[]), "--hf-repo");
    refused(&gone(&["bundle", "-hf", REPO, "-m", MODEL, "-o", "x"], &[]), "--hf-repo");
    let units = world.0.display().to_string();
    refused(&gone(&["install", "--systemd", "-o", &units, "-hf", REPO], &[]), "--hf-repo: a service has no network");
}

#[test]
fn a_server_is_fetched_for_and_then_starts_without_the_hub() {
    use std::io::{BufRead, BufReader};
    let (world, model) = (World::new("serve"), fs::read(MODEL).expect("the built-in model"));
    let hub = FakeHub::start(&[("tiny-Q8_0.gguf", &model)], Manners { cuts: vec![600_000], ..Manners::default() });
    for endpoint in [hub.endpoint(), "http://127.0.0.1:9".to_owned()] {
        let mut command = world.command(&endpoint, &["serve", "-hf", REPO, "--port", "0"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program runs");
        let mut log = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let addr = log.find_map(|line| {
            Some(line.split_once("http://127.0.0.1:")?.1.split('"').next()?.to_owned())
                .filter(|_| line.contains("listening on"))
        });
        let mut stream =
            std::net::TcpStream::connect(format!("127.0.0.1:{}", addr.expect("it listens"))).expect("it accepts");
        use std::io::{Read, Write};
        stream.write_all(b"GET /model/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    assert_eq!(hub.ranges().last(), Some(&Some("bytes=600000-".to_owned())));
}

#[test]
fn https_trusts_the_authorities_it_is_told() {
    use rustls::pki_types::PrivateKeyDer;
    let (world, bytes) = (World::new("https"), noise(100_000));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    let pem = world.0.join("ca.pem");
    fs::write(&pem, made.cert.pem()).expect("written");
    let key = PrivateKeyDer::try_from(made.key_pair.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    let config = Arc::new(config.expect("a pair"));
    let hub = FakeHub::wrapped(
        &[("m-Q4_K_M.gguf", &bytes)],
        Manners::default(),
        Box::new(move |stream| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(Box::new(rustls::StreamOwned::new(session, stream)))
        }),
    );
    let endpoint = format!("https://localhost:{}", hub.addr().port());
    refused(&world.command(&endpoint, &["pull", REPO]).output().expect("it runs"), "certificate");
    let told = world.command(&endpoint, &["pull", REPO]).env("SSL_CERT_FILE", &pem).output().expect("it runs");
    assert_eq!(fs::read(printed(&told)).expect("it is there"), bytes);
}
