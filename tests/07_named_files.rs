//! Step 7: files that options name by a descriptor, such as bash's `<(...)`, or that are no regular files.

use std::fs;
use std::os::unix::net::UnixListener;

use classroom::desk::reap;
use classroom::short::ShortPath;
use classroom::{Desk, Lab, World, lab};
use serde_json::json;

/// `<(...)` is /dev/fd/63, and a directory or file may be named by an open descriptor, too.
#[test]
fn files_by_descriptor() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "descriptors");
        desk.set_command("echo ran");
        let process = r#"{"cwd": "/", "args": ["echo", "ran"], "env": ["PATH=/bin"]}"#;
        fs::write(lab.folder.join("process.json"), process).unwrap();
        for script in [
            "cellblock run --bundle \"$bundle\" --config <(sleep .2; cat \"$bundle\"/config.json) one",
            "cellblock run --bundle \"$bundle\" -f /dev/stdin one < \"$bundle\"/config.json",
            "cellblock run --bundle /dev/fd/7 one 7< \"$bundle\"",
            "cellblock create --bundle /dev/fd/7 one 7< \"$bundle\" >\"$folder\"/told && cellblock delete one && echo ran",
        ] {
            let output = desk.bash(script);
            assert!(output.code == 0 && output.text.ends_with("ran\n"), "{output}");
        }
        desk.start("sleep 1000");
        for script in [
            format!("cellblock exec --process <(sleep .2; echo '{process}') one"),
            "cellblock exec --process /dev/fd/5 one 5< \"$folder\"/process.json".to_owned(),
            "cellblock exec -p /proc/self/fd/5 one 5< \"$folder\"/process.json".to_owned(),
            "cellblock update -r <(sleep .2; echo '{\"pids\": {\"limit\": 50}}') one && echo ran".to_owned(),
        ] {
            let output = desk.bash(&script);
            assert!(output.code == 0 && output.text.ends_with("ran\n"), "{output}");
        }
        let output = desk.bash("cellblock exec --process <(:) one");
        assert!(output.code == 125 && output.text.contains("EOF"), "{output}");
        desk.succeed(&["delete", "--force", "one"]);
        for file in ["process.json", "told"] {
            fs::remove_file(lab.folder.join(file)).unwrap();
        }
    });
}

/// Files that are opened after the descriptors are closed which no option names: they are written to, or connected to, late.
#[test]
fn late_files_by_descriptor() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "late-descriptors");
        let out = lab.folder.join("out");
        fs::create_dir(&out).unwrap();
        desk.set_command("echo ran");
        desk.configure(|config| config["process"]["capabilities"]["ambient"] = json!(["CAP_CHOWN"])); // a warning of the log
        let bundle = "--bundle \"$bundle\" one";
        let number = "grep -q '^[1-9][0-9]*$'";
        let is_told = "grep -q 'level=warning.*CAP_CHOWN'";
        for script in [
            format!("cellblock --log /dev/fd/7 run {bundle} 7>out/log && {is_told} out/log"),
            format!("cellblock --log=/proc/self/fd/7/log run {bundle} 7<out && {is_told} out/log"),
            format!("cellblock --log >(cat >out/log) run {bundle} && wait $! && {is_told} out/log"),
            format!("cellblock --log <(:) run {bundle}"),
            format!("cellblock run --pid-file /dev/fd/7 {bundle} 7>out/pid && {number} out/pid"),
            format!("cellblock run --pid-file=/dev/fd/7/pid {bundle} 7<out && {number} out/pid"),
            format!("root=/dev/fd/7/root cellblock run {bundle} 7<out"),
            "cellblock run --rootfs /dev/fd/7 --net none --name one echo ran 7<\"$bundle\"/rootfs".to_owned(),
        ] {
            let output = desk.bash(&format!("cd \"$folder\"; {script}; code=$?; rm -rf out/*; exit $code"));
            assert!(output.code == 0 && output.text == "ran\n", "{output}");
        }
        // The reader hears the end as soon as the number is written, and not when the container ends.
        desk.set_command("until test -e /go; do sleep .05; done; echo ran");
        let script = format!(
            "cd \"$folder\"; (exec \"$0\" --root \"$root\" run --pid-file >(cat >out/new; mv out/new out/pid) {bundle}) & \
            until test -e out/pid; do sleep .05; done; {number} out/pid && touch rootfs/go; wait; rm out/pid rootfs/go"
        );
        let output = desk.bash(&script.replace("rootfs/go", "\"$bundle\"/rootfs/go"));
        assert!(output.code == 0 && output.text == "ran\n", "{output}");
        desk.start("sleep 1000");
        for script in [
            "cellblock --log /dev/fd/7 exec one /nothing 7>out/log; grep -q 'level=error.*/nothing' out/log",
            "cellblock exec --pid-file >(cat >out/pid) one true && wait $! && grep -q '^[1-9][0-9]*$' out/pid",
        ] {
            let output = desk.bash(&format!("cd \"$folder\"; {script}"));
            assert_eq!(output.code, 0, "{output}");
        }
        desk.succeed(&["delete", "--force", "one"]);
        sockets_by_descriptor(lab, &desk);
        fs::remove_dir_all(out).unwrap();
    });
}

/// A socket in a directory that is open.
fn sockets_by_descriptor(lab: &Lab, desk: &Desk) {
    desk.configure(|config| config["process"]["terminal"] = json!(true));
    let short = ShortPath::new(lab);
    let listener = UnixListener::bind(short.join("out/socket")).unwrap();
    drop(short); // it has that path no longer, but stays
    let socket = "/dev/fd/7/socket";
    for words in [
        format!("create --console-socket {socket} --pidfd-socket {socket} --bundle \"$bundle\" one"),
        format!(
            "exec --console-socket {socket} --pidfd-socket {socket} --tty --detach --pid-file out/pid one sleep 1000"
        ),
    ] {
        let output = desk.bash(&format!("cd \"$folder\"; cellblock {words} 7<out"));
        assert_eq!(output.code, 0, "{output}");
        (0..2).for_each(|_| drop(listener.accept().unwrap()));
    }
    reap(fs::read_to_string(lab.folder.join("out/pid")).unwrap().parse().unwrap());
    desk.succeed(&["delete", "--force", "one"]);
}

/// A pid file that is a device, a pipe or a link to a descriptor stays what it is.
#[test]
fn a_pid_file_that_is_no_file() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "pid-file");
        desk.set_command("echo ran");
        let script = "cd \"$folder\"; mknod null c 1 3; mkfifo pipe; ln -s /proc/self/fd/1 stdout; ln -s missing link; \
            ln -s /proc/self/fd/10 ours; \
            for file in null pipe stdout link ours; do cat <pipe >read & exec 8>pipe; \
            cellblock run --pid-file \"$folder\"/$file --bundle \"$bundle\" one | tr 0-9 n; exec 8>&-; wait; \
            echo $file: $(stat -c %F $file) $(tr 0-9 n <read); done; rm null pipe stdout link ours read";
        let output = desk.bash(script);
        let shown = output.text.replace("nn", "n").replace("nn", "n").replace("nn", "n");
        let shown = shown.replace("nran\n", "ran\nn"); // the command may be quicker than the number
        let expected = "ran\nnull: character special file\nran\npipe: fifo n\nran\nnstdout: symbolic link\n\
            ran\nlink: regular file\nran\nours: regular file\n";
        assert_eq!(output.code, 0, "{output}");
        assert_eq!(shown, expected, "a link to elsewhere is replaced: it may be a stranger's");
    });
}

/// Words that are not UTF-8 are refused like any other, and what they are is told to the log.
#[test]
fn words_that_are_not_text() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "bytes");
        let script =
            "cd \"$folder\"; cellblock --log=$'l\\xff' --bogus $'\\xff'; code=$?; grep -c bogus l?; rm l?; exit $code";
        let output = desk.bash(script);
        let is_told = output.text.contains("unexpected argument '--bogus'") && output.text.ends_with("\n1\n");
        assert!(output.code == 125 && is_told, "{output}");
    });
}
