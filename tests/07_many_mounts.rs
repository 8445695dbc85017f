//! Step 7, the runtime: more mounts than a process may have descriptors.

use std::fs;
use std::process::Command;

use classroom::{Desk, Lab, Output, World, lab};
use serde_json::{Value, json};

/// As many descriptors as a process has by default.
const DESCRIPTORS: u32 = 1024;
/// They are all, and there is no way to more.
const NO_MORE: &str = "ulimit -n 1024";
/// The process may raise its limit.
const AT_FIRST: &str = "ulimit -Sn 1024";

/// A command with few descriptors. A container keeps what it was given as standard output: so that is a file.
fn with_few_descriptors(lab: &Lab, limit: &str, command: &Command) -> Output {
    let mut shell = Command::new("sh");
    let script = "\"$@\" >\"$OUTPUT\" 2>&1; code=$?; cat \"$OUTPUT\"; rm \"$OUTPUT\"; exit $code";
    shell.arg("-c").arg(format!("{limit}; {script}")).arg("sh").arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("OUTPUT", lab.folder.join("output"));
    lab.output(format!("# {command:?}"), shell)
}

/// A directory and a file of the host's, to be mounted many times.
fn make_sources(lab: &Lab) -> [String; 2] {
    let [directory, file] = ["source", "file"].map(|name| lab.folder.join(name));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("marker"), "a directory of the host\n").unwrap();
    fs::write(&file, "a file of the host\n").unwrap();
    [directory, file].map(|path| path.display().to_string())
}

fn remove_sources(sources: &[String; 2]) {
    fs::remove_dir_all(&sources[0]).unwrap();
    fs::remove_file(&sources[1]).unwrap();
}

/// Directories, files and file systems in memory in turn, below a directory in memory. The last ones lie on earlier ones.
fn many(count: usize, sources: &[String; 2]) -> Vec<Value> {
    let tmpfs = |place: &str, options: &[&str]| json!({"destination": place, "type": "tmpfs", "options": options});
    let bind = |place: &str, source: &str| json!({"destination": place, "source": source, "options": ["bind", "ro"]});
    let mount = |number: usize| match number % 4 {
        0 => bind(&format!("/many/{number}"), &sources[0]),
        1 => bind(&format!("/many/{number}"), &sources[1]),
        2 => tmpfs(&format!("/many/{number}"), &["size=4k"]),
        _ => tmpfs(&format!("/many/{number}"), &["size=4k", "ro"]),
    };
    let mut all = vec![tmpfs("/many", &["mode=755"])];
    all.extend((0..count).map(mount));
    all.push(tmpfs("/many/last", &["ro"]));
    all.push(bind("/many/last/below", &sources[0]));
    all.push(bind("/many/1", "rootfs/etc/passwd"));
    all
}

/// What the container looks at: that all are there, in the order of the list, as they were asked for; and its own limit.
const LOOK: &str = "grep -c ' /many' /proc/self/mountinfo; cat /many/0/marker /many/5 /many/last/below/marker; \
    head -c 4 /many/1; echo; touch /many/2/x && echo written; \
    for closed in 0 3 last; do touch /many/$closed/x 2>/dev/null && echo written to $closed; done; ulimit -n; ls /proc/self/fd | wc -l";

fn seen(count: usize) -> String {
    let directory = "a directory of the host\n";
    let mounts = count + 4;
    format!("{mounts}\n{directory}a file of the host\n{directory}root\nwritten\n{DESCRIPTORS}\n4\n")
}

fn configure(desk: &Desk, count: usize, sources: &[String; 2]) {
    desk.configure(|config| {
        config["mounts"].as_array_mut().unwrap().extend(many(count, sources));
        config["process"].as_object_mut().unwrap().remove("rlimits");
    });
}

fn remove_places(lab: &Lab) {
    fs::remove_dir(lab.rootfs.join("many")).unwrap(); // the place that was made
}

fn run(lab: &Lab, limit: &str, count: usize, change: impl FnOnce(&Desk)) {
    let desk = Desk::new(lab, "many-mounts");
    let sources = make_sources(lab);
    configure(&desk, count, &sources);
    change(&desk);
    desk.set_command(LOOK);
    let output = with_few_descriptors(lab, limit, &desk.command(&["run", "--bundle", "target/bundle", "one"]));
    assert!(output.code == 0 && output.text == seen(count), "{output}");
    remove_places(lab);
    remove_sources(&sources);
}

#[test]
fn in_run() {
    lab!(World::Root, |lab| run(lab, NO_MORE, 10_000, |_| {}));
}

#[test]
fn in_run_in_a_user_namespace() {
    lab!(World::Root, |lab| run(lab, NO_MORE, 10_000, |desk| desk.map_users(0, 65_536)));
}

/// What an ordinary user has waiting in sockets counts against its limit, up to the hard one.
#[test]
fn in_run_rootless() {
    lab!(World::Rootless, |lab| {
        run(lab, AT_FIRST, 4_000, |desk| desk.as_ordinary_user());
    });
}

/// In the lesson, too, the parent does not wait for a child that waits for the parent.
#[test]
fn volumes_of_the_lesson() {
    lab!(World::Root, |lab| {
        let sources = make_sources(lab);
        let volume = |number| format!("--volume={}:/mnt/{number}", sources[0]);
        let volumes: Vec<String> = (0..600).map(volume).collect();
        let mut words: Vec<&str> = ["--net", "none"].into_iter().chain(volumes.iter().map(String::as_str)).collect();
        words.extend(["sh", "-c", "grep -c ' /mnt' /proc/self/mountinfo"]);
        let output = lab.run("privileges", &words);
        assert!(output.code == 0 && output.text == "600\n", "{output}");
        let few = with_few_descriptors(lab, "ulimit -n 256", &lab.launcher("privileges", &words));
        assert!(few.code == 125 && few.text.contains("hint: there are too few descriptors"), "{few}");
        (0..600).for_each(|number| fs::remove_dir(lab.rootfs.join(format!("mnt/{number}"))).unwrap());
        remove_sources(&sources);
    });
}

#[test]
fn in_create_in_a_user_namespace() {
    lab!(World::Root, |lab| {
        let desk = Desk::new(lab, "many-mounts");
        let sources = make_sources(lab);
        configure(&desk, 2_000, &sources);
        desk.map_users(0, 65_536);
        let seen_inside = lab.rootfs.join("seen");
        fs::write(&seen_inside, "").unwrap();
        desk.configure(|config| config["root"]["readonly"] = json!(false));
        desk.set_command(&format!("({LOOK}) >/seen; echo done >>/seen; sleep 1000"));
        let created =
            with_few_descriptors(lab, NO_MORE, &desk.command(&["create", "--bundle", "target/bundle", "one"]));
        assert_eq!(created.code, 0, "{created}");
        desk.succeed(&["start", "one"]);
        let expected = seen(2_000) + "done\n";
        let is_seen = || fs::read_to_string(&seen_inside).is_ok_and(|text| text.ends_with("done\n"));
        assert!((0..500).any(|_| is_seen() || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            false
        }));
        assert_eq!(fs::read_to_string(&seen_inside).unwrap(), expected);
        desk.kill();
        desk.succeed(&["delete", "one"]);
        fs::remove_file(seen_inside).unwrap();
        remove_places(lab);
        remove_sources(&sources);
    });
}
