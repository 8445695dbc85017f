//! One check's own ground: its folder, its containers, and what must be the same afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bundle::Bundle;
use crate::groups;
use crate::sandbox::Sandbox;

/// No call of a runtime takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a check is given.
#[derive(Debug)]
pub struct Case<'a> {
    /// Where it all happens.
    pub sandbox: &'a Sandbox,
    /// The check's own folder.
    pub folder: PathBuf,
    /// The runtime's --root.
    pub root: PathBuf,
    /// A folder of the host's, into which nothing may find its way; in it the file `mark`.
    pub canary: PathBuf,
    counter: AtomicU32,
}

/// What a command printed, standard error included, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// All of it.
    pub text: String,
    /// As a shell gives it: 128 and the number for a signal; 124 when it took too long.
    pub code: i32,
}

impl Output {
    /// The first line that says something.
    pub fn line(&self) -> &str {
        self.text.lines().find(|line| !line.trim().is_empty()).unwrap_or("(it said nothing)")
    }
}

impl<'a> Case<'a> {
    /// A fresh one.
    pub fn new(sandbox: &'a Sandbox) -> Case<'a> {
        let folder = sandbox.folder.join("check");
        let (root, canary) = (folder.join("root"), folder.join("canary"));
        fs::create_dir_all(&canary).expect("the sandbox is ours");
        fs::create_dir_all(&root).expect("the sandbox is ours");
        fs::write(canary.join("mark"), "out here\n").expect("the sandbox is ours");
        Case { sandbox, folder, root, canary, counter: AtomicU32::new(0) }
    }

    /// A good bundle, for the check to spoil.
    pub fn bundle(&self) -> Bundle {
        Bundle::new(self.folder.join(self.name("bundle")), &self.canary.join("mark"))
    }

    /// A name that is not taken.
    pub fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.counter.fetch_add(1, Ordering::Relaxed))
    }

    /// The runtime, ready to be called.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.sandbox.runtime.path);
        command.arg("--root").arg(&self.root).args(words).current_dir(&self.folder);
        command
    }

    /// Calls the runtime.
    pub fn call(&self, words: &[&str]) -> Output {
        self.output(self.command(words))
    }

    /// Runs a command to its end. It writes to a file: a pipe would stay open as long as a container lives.
    pub fn output(&self, command: Command) -> Output {
        let file = self.folder.join(self.name("output"));
        let mut child = self.start(command, &file);
        let begin = Instant::now();
        let code = loop {
            match child.try_wait().expect("it is our child") {
                Some(status) => break status.code().unwrap_or(128 + status.signal().unwrap_or_default()),
                None if begin.elapsed() > PATIENCE => {
                    let _ = child.kill().and_then(|()| child.wait());
                    break 124;
                }
                None => sleep(Duration::from_micros(500)),
            }
        };
        let text = read(&file);
        let _ = fs::remove_file(file);
        Output { text, code }
    }

    /// Starts a command, its output into a file.
    pub fn start(&self, mut command: Command, file: &Path) -> Child {
        let output = fs::File::create(file).expect("the sandbox is ours");
        let copy = output.try_clone().expect("descriptors are left");
        command.stdin(Stdio::null()).stdout(output).stderr(copy);
        command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
    }

    /// Runs a bundle in the foreground, under a new id; then the id is unknown again. What a launch leaves that has failed or come
    /// to its end is told as what it is, for the next line removes it.
    pub fn run(&self, bundle: &mut Bundle) -> Output {
        let id = self.place(bundle);
        let mut output = self.call(&["run", "--bundle", &text(&bundle.folder), &id]);
        if output.code != 124 && self.root.join(&id).exists() {
            output.text += "ESCAPED: the launch has ended, and is still remembered\n";
        }
        self.call(&["delete", "--force", &id]);
        output
    }

    /// Creates a container; it is deleted when the handle is dropped.
    pub fn create(&'a self, bundle: &mut Bundle) -> Result<Container<'a>, Output> {
        self.create_with(bundle, &[])
    }

    /// Creates a container, with more options.
    pub fn create_with(&'a self, bundle: &mut Bundle, options: &[&str]) -> Result<Container<'a>, Output> {
        let id = self.place(bundle);
        let output = self.folder.join(self.name("container"));
        let folder = text(&bundle.folder);
        let mut words = vec!["create", "--bundle", &folder];
        words.extend(options);
        words.push(&id);
        let container = Container { case: self, output, id: id.clone() };
        let mut child = self.start(self.command(&words), &container.output);
        let status = wait(&mut child);
        if status == 0 { Ok(container) } else { Err(Output { text: container.said(), code: status }) }
    }

    /// Creates and starts a container.
    pub fn boot(&'a self, bundle: &mut Bundle) -> Result<Container<'a>, Output> {
        let container = self.create(bundle)?;
        let output = container.call("start", &[]);
        if output.code == 0 { Ok(container) } else { Err(output) }
    }

    /// Writes the configuration, with a cgroup of its own for a new id.
    pub fn place(&self, bundle: &mut Bundle) -> String {
        let id = self.name("c");
        if bundle.config["linux"].is_object() && bundle.config["linux"]["cgroupsPath"].is_null() {
            bundle.set("/linux/cgroupsPath", format!("{}/{id}", self.sandbox.parent));
            bundle.write();
            bundle.config["linux"].as_object_mut().expect("it is one").remove("cgroupsPath");
        } else {
            bundle.write();
        }
        id
    }

    /// What is there that a runtime could leave behind.
    pub fn trace(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for line in read(Path::new("/proc/self/mountinfo")).lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            found.insert(format!("mount {} ({})", fields[4], fields[3]));
        }
        let links = read(Path::new("/proc/net/dev"));
        found.extend(links.lines().filter_map(|line| Some(format!("link {}", line.split_once(':')?.0.trim()))));
        found.extend(groups::below(&self.sandbox.parent).iter().map(|group| format!("cgroup {}", group.display())));
        found.extend(processes().into_iter().map(|(pid, name)| format!("process {pid} {name}")));
        files(&self.canary, &mut |path| found.insert(format!("file {path}")));
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                found.insert(format!("state {name}")); // what begins with a dot is a cache, not a container
            }
        }
        for setting in ["kernel/hostname", "kernel/core_pattern", "net/ipv4/ip_forward"] {
            found.insert(format!("setting {setting} {}", read(&Path::new("/proc/sys").join(setting)).trim()));
        }
        found
    }

    /// Waits until nothing is there that was not there before; what still is after that.
    pub fn left_since(&self, before: &BTreeSet<String>) -> Vec<String> {
        let changed = || self.trace().symmetric_difference(before).cloned().collect::<Vec<_>>();
        (0..100).find(|_| {
            changed().is_empty() || {
                sleep(Duration::from_millis(10)); // the kernel ends processes and namespaces in the background
                false
            }
        });
        changed()
    }

    /// Throws away whatever a check and the runtime have left.
    pub fn clear(&self) {
        for (pid, _) in processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        groups::remove(&self.sandbox.parent);
        let folder = text(&self.folder);
        for line in read(Path::new("/proc/self/mountinfo")).lines().rev() {
            let place = line.split(' ').nth(4).unwrap_or_default();
            if place.starts_with(&folder) {
                let _ = nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A container that was created.
#[derive(Debug)]
pub struct Container<'a> {
    case: &'a Case<'a>,
    /// How it is called.
    pub id: String,
    output: PathBuf,
}

impl Container<'_> {
    /// Calls the runtime about it: `call("kill", &["KILL"])`. Options go before the id, as every runtime takes them;
    /// where they have values, a `--` ends them.
    pub fn call(&self, verb: &str, words: &[&str]) -> Output {
        let (options, rest) = match words.iter().position(|word| *word == "--") {
            Some(end) => (&words[..end], &words[end + 1..]),
            None => words.split_at(words.iter().take_while(|word| word.starts_with('-')).count()),
        };
        let mut all = vec![verb];
        all.extend(options);
        all.push(&self.id);
        all.extend(rest);
        self.case.call(&all)
    }

    /// A shell script inside, by exec.
    pub fn exec(&self, script: &str) -> Output {
        self.call("exec", &["--", "/bin/sh", "-c", script])
    }

    /// What it has printed so far.
    pub fn said(&self) -> String {
        read(&self.output)
    }

    /// A field of its state.
    pub fn state(&self, field: &str) -> Value {
        serde_json::from_str::<Value>(&self.call("state", &[]).text).unwrap_or_default()[field].clone()
    }

    /// Its first process, as the host numbers it.
    pub fn pid(&self) -> i32 {
        self.state("pid").as_i64().unwrap_or_default() as i32
    }

    /// Waits until its state is that one.
    pub fn becomes(&self, status: &str) -> bool {
        eventually(|| self.state("status") == status)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.call("delete", &["--force"]);
    }
}

/// Waits until something holds, for five seconds at most.
pub fn eventually(holds: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > Duration::from_secs(5) {
            return false;
        }
        sleep(Duration::from_millis(2));
    }
    true
}

/// Waits for a child, with patience.
pub fn wait(child: &mut Child) -> i32 {
    let begin = Instant::now();
    loop {
        match child.try_wait().expect("it is our child") {
            Some(status) => return status.code().unwrap_or(128 + status.signal().unwrap_or_default()),
            None if begin.elapsed() > PATIENCE => {
                let _ = child.kill().and_then(|()| child.wait());
                return 124;
            }
            None => sleep(Duration::from_micros(500)),
        }
    }
}

/// All processes in the sandbox but its init and ourselves.
pub fn processes() -> Vec<(i32, String)> {
    let own = std::process::id() as i32;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let name = |pid: i32| (pid, read(&PathBuf::from(format!("/proc/{pid}/comm"))).trim().to_owned());
    pids.filter(|pid| *pid != 1 && *pid != own).map(name).collect()
}

/// A path as a word.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A file's text; nothing if it cannot be read.
pub fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Puts a program or a file into a root filesystem.
pub fn put(path: &Path, content: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(path);
    file.as_mut().expect("the bundle is ours").write_all(content.as_bytes()).expect("the bundle is ours");
}

fn files(folder: &Path, add: &mut impl FnMut(String) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(found) = path.symlink_metadata() else { continue };
        add(format!("{} {:o} {}", path.display(), found.mode(), found.len()));
        if found.is_dir() {
            files(&path, add);
        }
    }
}
