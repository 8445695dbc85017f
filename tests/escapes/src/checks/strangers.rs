//! Strangers: another user of the host, another container, or the image itself has put something where a runtime looks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use super::{Check, NotApplicable, Safe, Unsafe, Verdict, judge, safe_if, worst};
use crate::case::{Case, Output, eventually, read, text, wait};
use crate::groups;

pub const CHECKS: [Check; 8] = [
    Check {
        name: "keyring-made-first",
        known_as: "runc _ses.ID",
        tries: "make the session keyring that the container will join, as another user, and read what is put into it",
        run: keyring_made_first,
    },
    Check {
        name: "listener-is-planted",
        known_as: "seccomp.listenerPath",
        tries: "listen inside the container at the path of the seccomp listener, and wait for an exec",
        run: listener_is_planted,
    },
    Check {
        name: "copy-up-is-exchanged",
        known_as: "tmpcopyup",
        tries: "exchange a file for a link while it is copied into a tmpfs",
        run: copy_up_is_exchanged,
    },
    Check {
        name: "passwd-is-special",
        known_as: "runc hangs",
        tries: "bring an /etc/passwd and an /etc/group that are FIFOs, endless devices, or links to the host's",
        run: passwd_is_special,
    },
    Check {
        name: "sysfs-below-is-written",
        known_as: "CVE-2023-25809",
        tries: "write below a mount in /sys, in a user namespace with the host's network",
        run: sysfs_below_is_written,
    },
    Check {
        name: "state-is-open",
        known_as: "runc 0600",
        tries: "read and write what is remembered of a container, as another user, under umask 0 and 022",
        run: state_is_open,
    },
    Check {
        name: "pid-files-collide",
        known_as: "predictable names",
        tries: "write pid files of neighbouring names at once, and where a link waits under a temporary name",
        run: pid_files_collide,
    },
    Check {
        name: "locks-are-taken",
        known_as: "flock of a stranger",
        tries: "hold, as another user, a lock on all that can be opened of a container",
        run: locks_are_taken,
    },
];

/// Another user of the host.
const STRANGER: &str = "12345";
/// In memory, and to be reached by every user, wherever the repository lies.
const MEETING: &str = "/run/escapes";

/// A command of another user's.
fn stranger(words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups"]).args(words).current_dir("/");
    command
}

/// A place that every user can reach, with the inmate in it; it is removed when dropped.
struct Meeting(PathBuf);

impl Meeting {
    fn new(case: &Case) -> Meeting {
        fs::create_dir_all(MEETING).expect("the sandbox is ours");
        fs::set_permissions(MEETING, fs::Permissions::from_mode(0o755)).expect("the sandbox is ours");
        fs::copy(case.bundle().rootfs("/bin/inmate"), Path::new(MEETING).join("inmate")).expect("the sandbox is ours");
        fs::create_dir_all(Path::new(MEETING).join("root")).expect("the sandbox is ours");
        Meeting(PathBuf::from(MEETING))
    }

    fn path(&self, name: &str) -> String {
        text(&self.0.join(name))
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn keyring_made_first(case: &Case) -> Verdict {
    let meeting = Meeting::new(case);
    let inmate = meeting.path("inmate");
    // Does a key that is put into the keyring of that name come to the stranger that made it?
    let comes = |name: &str, fill: &dyn Fn()| {
        let file = case.folder.join(case.name("trap"));
        let mut trap = case.start(stranger(&[&inmate, "keyring-trap", name, "2"]), &file);
        if eventually(|| read(&file).contains("set") || read(&file).contains("no keys")) {
            fill();
        }
        wait(&mut trap);
        read(&file)
    };
    let probe = comes("escapes-probe", &|| {
        let mut fill = Command::new(&inmate);
        fill.args(["keyring-fill", "escapes-probe"]);
        case.output(fill);
    });
    if probe.contains("no keys") {
        return NotApplicable("this kernel has no keys".to_owned());
    }
    let works = safe_if(probe.contains("caught"), "the trap works", format!("the probe itself does not run: {probe}"));
    let mut bundle = case.bundle();
    let tried = ["cell", "ID", "_ses.ID"].map(|name| {
        let id = case.place(bundle.args(&["/bin/inmate", "keyring-fill"]));
        let folder = text(&bundle.folder);
        let found = comes(&name.replace("ID", &id), &|| drop(case.call(&["run", "--bundle", &folder, &id])));
        case.call(&["delete", "--force", &id]);
        safe_if(!found.contains("caught"), "no key comes", format!("a stranger reads the keyring {name}"))
    });
    worst([works].into_iter().chain(tried))
}

fn listener_is_planted(case: &Case) -> Verdict {
    // A socket's path has 107 bytes at most, and the repository may lie anywhere.
    let meeting = Meeting::new(case);
    let path = meeting.path("listener");
    let outside = std::os::unix::net::UnixListener::bind(&path).expect("the sandbox is ours");
    outside.set_nonblocking(true).expect("it is ours");
    let mut bundle = case.bundle();
    fs::create_dir_all(bundle.rootfs(MEETING)).expect("it is ours");
    let architecture = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": [architecture],
            "listenerPath": path,
            "syscalls": [{ "names": ["mknod", "mknodat"], "action": "SCMP_ACT_NOTIFY" }]
        }),
    );
    let container = match case.boot(bundle.args(&["/bin/inmate", "listen", &path])) {
        Ok(container) => container,
        Err(output) => return judge(&output),
    };
    if !eventually(|| container.said().contains("listening")) {
        return Unsafe(format!("the probe itself does not run: {}", container.said()));
    }
    let of_create = std::iter::from_fn(|| outside.accept().ok()).count();
    let exec = container.call("exec", &["--", "echo", "it ran"]);
    let of_exec = std::iter::from_fn(|| outside.accept().ok()).count();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let said = container.said();
    match () {
        () if said.contains("ESCAPED") => Unsafe(said.lines().last().unwrap_or_default().to_owned()),
        () if exec.code != 0 => Unsafe(format!("exec fails: {}", exec.line())),
        () => safe_if(
            of_create == 1 && of_exec == 1,
            "the listener goes to the host's socket",
            format!("the host's socket was called {of_create} times by create, {of_exec} by exec"),
        ),
    }
}

fn copy_up_is_exchanged(case: &Case) -> Verdict {
    const STARTS: usize = 150;
    let mut bundle = case.bundle();
    let (file, link) = (bundle.rootfs("/data/file"), bundle.rootfs("/data/link"));
    fs::create_dir(bundle.rootfs("/data")).expect("it is ours");
    fs::write(&file, "harmless\n").expect("it is ours");
    fs::write(bundle.rootfs("/secret"), "a secret\n").expect("it is ours");
    symlink("/secret", &link).expect("it is ours");
    bundle.mount("/data", "tmpfs", "tmpfs", &["nosuid", "tmpcopyup"]);
    let script = "[ -e /data/file ] || [ -L /data/link ] && echo copied
        for f in /data/*; do [ -L $f ] || ! grep -q secret $f || echo ESCAPED: a link was followed; done; echo tried";
    bundle.script(script);
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                let _ = renameat2(AT_FDCWD, &file, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE);
            }
        });
        let mut copied = 0;
        let verdict = worst((0..STARTS).map(|_| {
            let output = case.run(&mut bundle);
            copied += usize::from(output.text.contains("copied"));
            judge(&output)
        }));
        enough.store(true, Ordering::Relaxed);
        match verdict {
            Safe(_) if copied == 0 => NotApplicable("this runtime does not copy".to_owned()),
            verdict => verdict,
        }
    })
}

/// Puts something where a file belongs.
type Bring<'a> = &'a dyn Fn(&Path);

fn passwd_is_special(case: &Case) -> Verdict {
    let outside = case.folder.join("passwd");
    fs::write(&outside, "root:x:0:0::/ESCAPED-to-the-file:/bin/sh\n").expect("the sandbox is ours");
    let climb = &|number: u32| format!("/proc/self/fd/{number}/../../../../../../../../../../..{}", outside.display());
    let plain: Bring = &|path| fs::write(path, "root:x:0:0::/of-the-image:/bin/sh\n").expect("it is ours");
    let fifo: Bring = &|path| nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o666)).expect("it is ours");
    let zero: Bring = &|path| {
        mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5)).expect("root may");
    };
    let links: Vec<_> =
        (3..12).map(|number| move |path: &Path| symlink(climb(number), path).expect("it is ours")).collect();
    let mut brought: Vec<(&str, Bring)> = vec![("a file", plain), ("a FIFO", fifo), ("an endless device", zero)];
    brought.extend(links.iter().map(|link| ("a link to the host", link as Bring)));
    worst(brought.iter().map(|(what, bring)| match special_files(case, *bring, *what == "a file") {
        Unsafe(why) => Unsafe(format!("{what}: {why}")),
        verdict => verdict,
    }))
}

/// The verbs that look users up, with those files; each must end, and the container must be deleted.
fn special_files(case: &Case, bring: Bring, is_plain: bool) -> Verdict {
    let mut bundle = case.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 256 << 20 }));
    let exchange = |bundle: &crate::bundle::Bundle| {
        for name in ["/etc/passwd", "/etc/group"] {
            let _ = fs::remove_file(bundle.rootfs(name));
            bring(&bundle.rootfs(name));
        }
    };
    let tell = "echo HOME is $HOME; echo tried";
    let container = match case.boot(bundle.args(&["sleep", "60"])) {
        Ok(container) => container,
        Err(output) => return Unsafe(format!("it does not start: {}", output.line())),
    };
    exchange(&bundle);
    let exec = container.exec(tell);
    let begin = Instant::now();
    let deleted = container.call("delete", &["--force"]);
    let ends = deleted.code == 0 && begin.elapsed().as_secs() < 8;
    let run = case.run(bundle.script(tell));
    if is_plain {
        let is_read = |output: &Output| output.text.contains("/of-the-image");
        return safe_if(is_read(&run) == is_read(&exec), "held", "one verb looks the home up, the other does not");
    }
    let judged = [("exec", exec), ("run", run)].map(|(verb, output)| match judge(&output) {
        Unsafe(why) => Unsafe(format!("{verb}: {why}")),
        verdict => verdict,
    });
    worst(judged.into_iter().chain([safe_if(ends, "deleted", format!("delete --force: {}", deleted.line()))]))
}

fn sysfs_below_is_written(case: &Case) -> Verdict {
    let places = ["/sys/kernel/debug", "/sys/kernel/tracing", "/sys/fs/bpf", "/sys/fs/fuse/connections", "/sys/power"];
    let Some(place) = places.iter().find(|place| Path::new(place).is_dir()) else {
        return NotApplicable("this kernel's /sys has no place for a mount".to_owned());
    };
    // A mount of the host's below /sys that every user may write to.
    let options = Some("mode=777,size=64k");
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("probe"), *place, Some("tmpfs"), none, options).expect("these mounts are ours");
    let works = fs::write(format!("{place}/outside"), "").is_ok();
    let mut bundle = super::rights::mapped(case);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
    namespaces.retain(|namespace| namespace["type"] != "network");
    let script = format!(
        "ls /sys >/dev/null && echo there is a /sys; touch {place}/inside 2>/dev/null && echo ESCAPED: {place} is written; echo tried"
    );
    let output = case.run(bundle.script(&script));
    let written = Path::new(place).join("inside").exists();
    let _ = nix::mount::umount2(*place, nix::mount::MntFlags::MNT_DETACH);
    match judge(&output) {
        Safe(_) if !works => Unsafe("the probe itself does not run: nothing can be written there".to_owned()),
        Safe(_) if written => Unsafe(format!("{place} was written")),
        // A place that is not shown at all (a /sys without what is mounted in it) is a folder of sysfs: not to be written.
        verdict => verdict,
    }
}

/// Calls the runtime with its state where every user can look for it.
fn call_at(case: &Case, root: &str, mask: &str, words: &[&str]) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("umask {mask}; exec \"$@\""), "caller"]).arg(&case.sandbox.runtime.path);
    shell.arg("--root").arg(root).args(words).current_dir(&case.folder);
    case.output(shell)
}

fn state_is_open(case: &Case) -> Verdict {
    worst(["0", "022"].map(|mask| {
        let meeting = Meeting::new(case);
        let root = meeting.path("root");
        let mut bundle = case.bundle();
        let id = case.place(bundle.args(&["sleep", "60"]));
        let folder = text(&bundle.folder);
        let created = call_at(case, &root, mask, &["create", "--bundle", &folder, &id]);
        // What the stranger must be able to find, or it has not looked.
        fs::write(meeting.path("bait"), "").expect("it is ours");
        fs::set_permissions(meeting.path("bait"), fs::Permissions::from_mode(0o666)).expect("it is ours");
        let look = ["find", MEETING, "(", "-readable", "-o", "-writable", ")", "!", "-type", "d"];
        let mut found = stranger(&look);
        let found = found.stderr(Stdio::null()).output().expect("find is there").stdout;
        let found = String::from_utf8_lossy(&found).into_owned();
        let mut folders = stranger(&["find", &root, "-type", "d", "-writable"]);
        let folders = folders.stderr(Stdio::null()).output().expect("find is there").stdout;
        call_at(case, &root, mask, &["delete", "--force", &id]);
        let open = found.lines().find(|line| line.starts_with(&root));
        match open {
            _ if created.code != 0 => Unsafe(format!("it is not created: {}", created.line())),
            _ if !found.contains("bait") => Unsafe("the probe itself does not run: the bait is not found".to_owned()),
            Some(path) => Unsafe(format!("umask {mask}: {path} is open to another user")),
            None => safe_if(folders.is_empty(), "held", format!("umask {mask}: a directory can be written to")),
        }
    }))
}

fn pid_files_collide(case: &Case) -> Verdict {
    const ROUNDS: usize = 15;
    let folder = case.folder.join("pids");
    fs::create_dir(&folder).expect("the sandbox is ours");
    let mut bundle = case.bundle();
    let container = match case.boot(bundle.args(&["sleep", "60"])) {
        Ok(container) => container,
        Err(output) => return judge(&output),
    };
    let exec = |name: &str| {
        let file = text(&folder.join(name));
        let mut command = case.command(&["exec", "--pid-file", &file, &container.id, "true"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("it is there")
    };
    for _ in 0..ROUNDS {
        let mut all = ["web.1", "web.2", "web.3", "web.4"].map(exec);
        let codes = all.each_mut().map(wait);
        let pids = ["web.1", "web.2", "web.3", "web.4"].map(|name| read(&folder.join(name)));
        let different: std::collections::BTreeSet<&String> = pids.iter().filter(|pid| !pid.is_empty()).collect();
        if codes != [0; 4] || different.len() != 4 {
            return Unsafe(format!("four at once end with {codes:?}, and their files say {pids:?}"));
        }
    }
    let victim = case.folder.join("victim");
    fs::write(&victim, "untouched").expect("the sandbox is ours");
    for name in ["p.new", "p.tmp", ".p", ".p.tmp", "p~", ".p.new"] {
        symlink(&victim, folder.join(name)).expect("the sandbox is ours");
    }
    wait(&mut exec("p"));
    safe_if(read(&victim) == "untouched", "held", "a link under a temporary name was followed")
}

fn locks_are_taken(case: &Case) -> Verdict {
    let meeting = Meeting::new(case);
    let root = meeting.path("root");
    let mut bundle = case.bundle();
    let id = case.place(bundle.args(&["sleep", "60"]));
    let created = call_at(case, &root, "022", &["create", "--bundle", &text(&bundle.folder), &id]);
    if created.code != 0 {
        return Unsafe(format!("it is not created: {}", created.line()));
    }
    let own = groups::directories(&format!("{}/{id}", case.sandbox.parent));
    let places = own.iter().map(|path| text(path)).chain([root.clone()]).collect::<Vec<_>>().join(" ");
    let script = format!(
        "for f in $(find {places} -readable ! -type l 2>/dev/null); do flock -n $f sleep 60 & done; sleep 0.3; echo held; wait"
    );
    let file = case.folder.join("locks");
    let mut holder = case.start(stranger(&["sh", "-c", &script]), &file);
    let held = eventually(|| read(&file).contains("held"));
    let is_locked = |path: &PathBuf| {
        let free = Command::new("flock").arg("-n").arg(path).arg("true").status();
        free.is_ok_and(|status| !status.success())
    };
    let works = held && own.iter().any(is_locked);
    let verbs: [&[&str]; 4] =
        [&["start", &id], &["exec", &id, "true"], &["kill", &id, "KILL"], &["delete", "--force", &id]];
    let verdict = worst(verbs.map(|words| {
        let output = call_at(case, &root, "022", words);
        safe_if(output.code == 0, "it ends", format!("{}: {} ({})", words[0], output.line(), output.code))
    }));
    let _ = holder.kill().and_then(|()| holder.wait());
    for (pid, name) in crate::case::processes() {
        if name == "sleep" || name == "flock" {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
    }
    match verdict {
        Safe(_) if !works => Unsafe("the probe itself does not run: no lock is held".to_owned()),
        verdict => verdict,
    }
}
