//! The runtime's own program: it enters the container, and the container must not write it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use super::{Check, Safe, Unsafe, Verdict, judge, safe_if};
use crate::case::{Case, Output, put};

pub const CHECKS: [Check; 4] = [
    Check {
        name: "runtime-as-program",
        known_as: "CVE-2019-5736",
        tries: "have the runtime start itself, by /proc/self/exe as program and as interpreter, and write to it",
        run: runtime_as_program,
    },
    Check {
        name: "runtime-is-written",
        known_as: "CVE-2019-5736",
        tries: "hold the program of every process that exec brings in, and write to it when it has ended",
        run: runtime_is_written,
    },
    Check {
        name: "runtime-lends-its-pages",
        known_as: "CVE-2022-0847",
        tries: "find the runtime's own file running in the container, where a fault in the kernel could write it",
        run: runtime_lends_its_pages,
    },
    Check {
        name: "copy-is-sealed",
        known_as: "CVE-2019-5736",
        tries: "write to the copy that runs instead",
        run: copy_is_sealed,
    },
];

/// Whether the runtime's file is still what it was.
fn unchanged(case: &Case, before: &[u8]) -> Verdict {
    let after = fs::read(&case.sandbox.runtime.path).unwrap_or_default();
    if after == before {
        return Safe("it is as it was".to_owned());
    }
    fs::write(&case.sandbox.runtime.path, before).expect("the copy is ours");
    Unsafe("the runtime's file has been written".to_owned())
}

fn program(case: &Case) -> Vec<u8> {
    fs::read(&case.sandbox.runtime.path).expect("it is ours")
}

fn runtime_as_program(case: &Case) -> Verdict {
    let before = program(case);
    let mut bundle = case.bundle();
    put(&bundle.rootfs("/bin/itself"), "#!/proc/self/exe\n");
    case.run(bundle.args(&["/proc/self/exe", "--version"]));
    case.run(bundle.args(&["/bin/itself"]));
    if let Ok(container) = case.boot(bundle.args(&["sleep", "60"])) {
        container.call("exec", &["--", "/proc/self/exe", "--version"]);
        container.call("exec", &["--", "/bin/itself"]);
    }
    unchanged(case, &before)
}

fn runtime_is_written(case: &Case) -> Verdict {
    let before = program(case);
    // The shell holds what it can get, tries at once, and again when the process must be gone.
    let hold = "while [ ! -e /enough ]; do for p in /proc/[0-9]*; do
        case $p in /proc/1|/proc/$$) continue;; esac
        { echo x >>/proc/self/fd/5; sleep 0.05; echo x >>/proc/self/fd/5; } 5<$p/exe
        done 2>/dev/null; done; echo tried";
    let mut bundle = case.bundle();
    put(&bundle.rootfs("/bin/itself"), "#!/proc/self/exe\n");
    let container = match case.boot(bundle.allow("CAP_SYS_PTRACE").script(hold)) {
        Ok(container) => container,
        Err(output) => return judge(&output),
    };
    for command in ["true", "/bin/itself", "/proc/self/exe"].repeat(10) {
        container.call("exec", &["--", command]);
    }
    let _ = fs::write(bundle.rootfs("/enough"), "");
    container.becomes("stopped");
    match judge(&Output { text: container.said(), code: 0 }) {
        Safe(_) => unchanged(case, &before),
        verdict => verdict,
    }
}

fn runtime_lends_its_pages(case: &Case) -> Verdict {
    let container = match case.create(&mut case.bundle()) {
        Ok(container) => container,
        Err(output) => return Unsafe(output.text),
    };
    let runs = fs::metadata(format!("/proc/{}/exe", container.pid())).map(|found| (found.dev(), found.ino()));
    let own = fs::metadata(&case.sandbox.runtime.path).map(|found| (found.dev(), found.ino()));
    safe_if(runs.ok() != own.ok(), "a copy runs in there", "the waiting init runs the runtime's own file")
}

/// What runs cannot be written to in any case (ETXTBSY): so it is held, and tried again when it has ended.
fn copy_is_sealed(case: &Case) -> Verdict {
    let before = program(case);
    let container = match case.create(&mut case.bundle()) {
        Ok(container) => container,
        Err(output) => return Unsafe(output.text),
    };
    let held = fs::File::open(format!("/proc/{}/exe", container.pid()));
    drop(container);
    let Ok(held) = held else { return Unsafe("the probe itself does not run: there is no program to hold".to_owned()) };
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let ended = crate::case::eventually(|| crate::case::processes().is_empty());
    let opened = fs::OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(b"x"));
    match (opened, unchanged(case, &before)) {
        (_, Unsafe(why)) => Unsafe(why),
        (Ok(()), _) => Unsafe("what ran in there can be written".to_owned()),
        (Err(error), _) => safe_if(ended, &error.to_string(), "the probe itself does not run: it has not ended"),
    }
}
