//! Step 7, terminals: their first size, what passes between them and the caller, and what must never wait for it.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use classroom::lab::binary;
use classroom::run::code;
use classroom::short::ShortPath;
use classroom::{Desk, World, lab};
use kernel::Fd;
use kernel::sys::socket::receive_fd;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// The caller's terminal is of this size.
const SIZE: &str = "41 111";

/// A desk whose command has a terminal.
fn desk<'a>(lab: &'a classroom::Lab, test: &str, command: Value) -> Desk<'a> {
    let desk = Desk::new(lab, test);
    desk.configure(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["args"] = command;
    });
    desk
}

/// What a line of a shell shows at a terminal of 41 rows and 111 columns (man 1 script). In it, `C` is the runtime.
fn at_a_terminal(desk: &Desk, line: &str) -> String {
    let mut script = Command::new("script");
    let setup = "stty rows 41 cols 111; C() { \"$CELLBLOCK\" --root \"$STATE\" \"$@\"; }";
    script.args(["--quiet", "--return", "--command", &format!("{setup}; {line}"), "/dev/null"]);
    script.env("CELLBLOCK", binary("cellblock")).env("STATE", &desk.root).env("BUNDLE", &desk.bundle);
    script.env("OUT", desk.lab.folder.join("out")).env("SHELL", "/bin/sh").stdin(Stdio::piped());
    let mut child = script.stdout(Stdio::piped()).spawn().expect("script is there");
    let _keyboard = child.stdin.take(); // at its end, script would type one
    let output = child.wait_with_output().expect("it is our child");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `run` with pipes as standard descriptors, its standard error kept apart.
fn run_on_pipes(desk: &Desk) -> Child {
    let mut command = Command::new(binary("cellblock"));
    command.arg("--root").arg(&desk.root).arg("run").arg("--bundle").arg(&desk.bundle).arg("one");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it was built")
}

/// It must end within half a minute; what it showed, and its exit code.
fn end_of(mut child: Child) -> (i32, String) {
    let pid = Pid::from_raw(child.id() as i32);
    let mut output = child.stdout.take().expect("a pipe");
    let (ended, watched) = std::sync::mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(30)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            kill(pid, Signal::SIGKILL).expect("it still runs");
        }
    });
    let mut text = Vec::new();
    output.read_to_end(&mut text).unwrap();
    let status = child.wait().unwrap();
    drop(ended);
    watch.join().unwrap();
    assert_eq!(status.signal(), None, "it did not end by itself");
    (code(status), String::from_utf8_lossy(&text).into_owned())
}

fn wait_for(child: &mut Child, what: &str) {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.contains(what) {
        child.stdout.as_mut().unwrap().read_exact(&mut byte).expect("it says more");
        text.push(byte[0].into());
    }
}

/// The first thing that a command sees of its terminal is the size of the caller's, whichever standard descriptor that is.
#[test]
fn the_first_size() {
    lab!(World::Root, |lab| {
        let desk = desk(lab, "first-size", json!(["stty", "size"]));
        let run = "C run --bundle \"$BUNDLE\" one";
        let many = at_a_terminal(&desk, &format!("for i in 1 2 3 4 5 6 7 8; do {run}; done"));
        assert_eq!(many.matches(SIZE).count(), 8, "{many}");
        assert!(at_a_terminal(&desk, &format!("{run} </dev/null")).contains(SIZE), "of standard output");
        let of_error = at_a_terminal(&desk, &format!("{run} </dev/null >\"$OUT\"; cat \"$OUT\"; rm \"$OUT\""));
        assert!(of_error.contains(SIZE), "of standard error: {of_error}");
        let size = |height: u32, width: u32| {
            desk.configure(|config| config["process"]["consoleSize"] = json!({"height": height, "width": width}));
            at_a_terminal(&desk, run)
        };
        assert!(size(30, 90).contains("30 90"), "the configuration's comes first");
        assert!(size(0, 90).contains(SIZE), "one without rows is no size");
    });
}

#[test]
fn the_first_size_in_exec() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "first-size-exec");
        desk.start("sleep 60");
        let exec = "C exec --tty one stty size";
        let many = at_a_terminal(&desk, &format!("for i in 1 2 3 4 5 6 7 8; do {exec}; done"));
        assert_eq!(many.matches(SIZE).count(), 8, "{many}");
        assert!(at_a_terminal(&desk, &format!("{exec} </dev/null")).contains(SIZE), "of standard output");
        desk.succeed(&["delete", "--force", "one"]);
    });
}

#[test]
fn the_first_size_by_a_socket() {
    lab!(World::Root, |lab| {
        let desk = desk(lab, "first-size-socket", json!(["stty", "size"]));
        let short = ShortPath::new(lab);
        let path = short.join("console");
        let socket = UnixListener::bind(&path).unwrap();
        at_a_terminal(&desk, &format!("C create --bundle \"$BUNDLE\" --console-socket {} one", path.display()));
        let (connection, _) = socket.accept().unwrap();
        let master = receive_fd(&Fd::new(connection.into(), "connection"), "master").unwrap();
        desk.succeed(&["start", "one"]);
        let (mut said, mut buffer) = (String::new(), [0; 64]);
        while let Ok(count @ 1..) = nix::unistd::read(&master, &mut buffer) {
            said += &String::from_utf8_lossy(&buffer[..count]);
        }
        assert_eq!(said, format!("{SIZE}\r\n"), "the receiver of the terminal sees to its line feeds");
        desk.wait_for("stopped");
        desk.succeed(&["delete", "one"]);
        std::fs::remove_file(path).unwrap();
    });
}

/// A pipe gets the command's bytes; a terminal moves to the first column once.
#[test]
fn line_feeds() {
    lab!(World::Root, |lab| {
        let desk = desk(lab, "line-feeds", json!(["printf", "a\\nb\\n"]));
        assert_eq!(end_of(run_on_pipes(&desk)), (0, "a\nb\n".to_owned()));
        assert_eq!(at_a_terminal(&desk, "C run --bundle \"$BUNDLE\" one"), "a\r\nb\r\n");
        desk.configure(|config| config["process"]["terminal"] = json!(false));
        desk.start("sleep 60");
        assert_eq!(at_a_terminal(&desk, "C exec --tty one printf 'a\\nb\\n'"), "a\r\nb\r\n");
        assert_eq!(at_a_terminal(&desk, "C exec --tty one printf 'a\\nb\\n' | od -An -c | tr -d ' '"), "a\\nb\\n\r\n");
        desk.succeed(&["delete", "--force", "one"]);
    });
}

/// More is typed than a terminal holds while the command does not read: its output still comes, and a signal reaches it.
#[test]
fn a_large_paste() {
    lab!(World::Root, |lab| {
        let script = "trap 'echo goodbye; exit 3' TERM; stty raw -echo; echo ready; read go; \
                      while :; do echo tick; sleep 0.05; done";
        let desk = desk(lab, "paste", json!(["sh", "-c", script]));
        let mut child = run_on_pipes(&desk);
        wait_for(&mut child, "ready");
        let mut input = child.stdin.take().unwrap();
        let typing = thread::spawn(move || input.write_all(&[&b"\n"[..], &[b'x'; 300_000]].concat()));
        wait_for(&mut child, "tick\ntick");
        thread::sleep(Duration::from_millis(300)); // until the terminal is full
        wait_for(&mut child, "tick\ntick");
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        let (code, text) = end_of(child);
        assert!(code == 3 && text.contains("goodbye"), "{code}: {text}");
        assert!(typing.join().unwrap().is_err(), "not all of it was read");
    });
}

/// A large paste arrives whole where the command reads it, through all the partial writes.
#[test]
fn a_large_paste_arrives() {
    lab!(World::Root, |lab| {
        let script = "stty raw -echo; echo ready; head -c 300000 | md5sum";
        let desk = desk(lab, "paste-whole", json!(["sh", "-c", script]));
        let mut child = run_on_pipes(&desk);
        wait_for(&mut child, "ready");
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number * 7 % 251) as u8).collect();
        let sum = Command::new("sh").args(["-c", "md5sum"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut sum = sum.unwrap();
        sum.stdin.take().unwrap().write_all(&bytes).unwrap();
        let expected = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
        let mut input = child.stdin.take().unwrap();
        let typing = thread::spawn(move || input.write_all(&bytes));
        let (code, text) = end_of(child);
        assert_eq!((code, text.trim()), (0, expected.trim()));
        typing.join().unwrap().unwrap();
    });
}

/// Nothing takes the output any more, as when the caller's terminal is stopped: a signal still reaches the command.
#[test]
fn output_that_is_not_read() {
    lab!(World::Root, |lab| {
        let desk = desk(lab, "full", json!(["sh", "-c", "trap 'exit 3' TERM; echo ready; yes & wait"]));
        let terminal = nix::pty::openpty(None, None).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        for (output, reader) in [(terminal.slave, terminal.master), (writer.into(), reader.into())] {
            let mut command = Command::new(binary("cellblock"));
            command.arg("--root").arg(&desk.root).arg("run").arg("--bundle").arg(&desk.bundle).arg("one");
            let mut child = command.stdin(Stdio::null()).stdout(output).spawn().expect("it was built");
            drop(command); // it holds the writing end
            let mut reader = std::fs::File::from(reader);
            reader.read_exact(&mut [0; 5]).expect("it is ready");
            thread::sleep(Duration::from_millis(500)); // until there is no room left
            kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
            desk.wait_for("stopped");
            let _ = reader.read_to_end(&mut Vec::new()); // a terminal ends with EIO
            assert_eq!(code(child.wait().unwrap()), 3);
            desk.nothing_is_left();
        }
    });
}

/// At the end of standard input a command that reads lines has an end, in the middle of a line, too; and `run` ends with
/// one that does not read.
#[test]
fn the_end_of_input() {
    lab!(World::Root, |lab| {
        let desk = desk(lab, "end", json!(["sh", "-c", "stty -echo; echo ready; cat; exit 4"]));
        for typed in ["", "a line\n", "a line\nand a half"] {
            let mut child = run_on_pipes(&desk);
            wait_for(&mut child, "ready\n");
            child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
            assert_eq!(end_of(child), (4, typed.to_owned()), "{typed:?}");
        }
        desk.set_command("echo ready; sleep 0.3; echo bye; exit 5");
        let mut child = run_on_pipes(&desk);
        drop(child.stdin.take());
        assert_eq!(end_of(child), (5, "ready\nbye\n".to_owned()));
    });
}
