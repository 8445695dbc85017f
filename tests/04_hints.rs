//! Step 4: what a failure recommends is done to the letter, and mends it.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};

use classroom::world::{self, sh};
use classroom::{Lab, World, every_step, lab};

const STEP: &str = "network";

/// A cell that stays.
fn cell(lab: &Lab, options: &[&str]) -> Child {
    let mut launcher = lab.launcher(STEP, &[options, &["sh", "-c", "echo up; cat"]].concat());
    let mut child = launcher.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(every_step::wait_for_a_line(&mut child), "up\n");
    child
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// What a launch with these words (the options, as typed) complains of, and what it recommends.
fn complaint(lab: &Lab, options: &str) -> (String, String) {
    let words: Vec<&str> = options.split_whitespace().chain(["true"]).collect();
    let text = lab.run(STEP, &words).text;
    let said = text.split_once("\nhint: ").unwrap_or_else(|| panic!("{options}: {text:?}"));
    (said.0.to_owned(), said.1.trim_end().to_owned())
}

/// A launch that has nothing to complain of.
fn is_content(lab: &Lab, options: &str) {
    let words: Vec<&str> = options.split_whitespace().chain(["true"]).collect();
    let output = lab.run(STEP, &words);
    assert_eq!((output.code, output.text.as_str()), (0, ""), "{options}");
}

/// The options in a hint: from its first `--` on.
fn options(hint: &str) -> &str {
    &hint[hint.find("--").unwrap_or_else(|| panic!("{hint}"))..]
}

#[test]
fn examples_are_examples() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        for wrong in [
            "--ip ten",
            "--subnet 10.80.0.1/24",
            "-p 80",
            "-p 0:80",
            "--dns server",
            "--add-host db",
            "--mac 01:00:00:00:00:00",
            "--hostname a\u{1}b",
            "--net none -p 80:80",
        ] {
            let (text, hint) = complaint(lab, wrong);
            let right = options(&hint);
            let ports = if wrong.ends_with("80:80") { " -p 80:80" } else { "" };
            is_content(lab, &format!("{right}{ports}"));
            assert!(!text.is_empty());
        }
    });
}

#[test]
fn another_name_address_or_subnet() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let first = cell(lab, &["--ip", "10.76.0.9", "-p", "8081:80"]);
        sh("ip link add mine type bridge; ip address add 10.78.0.1/16 dev mine; ip link set mine up");
        let (_, hint) = complaint(lab, "--ip 10.76.0.9");
        assert!(hint.starts_with("leave --ip out"), "{hint}");
        is_content(lab, "");
        let (_, hint) = complaint(lab, "--ip 10.77.0.9");
        assert!(hint.contains("another --bridge with a --subnet of its own"), "{hint}");
        is_content(lab, "--bridge other --subnet 10.77.0.0/16 --ip 10.77.0.9");
        for taken in ["--bridge mine", "--subnet 10.80.0.0/16"] {
            let (_, hint) = complaint(lab, taken);
            is_content(lab, &format!("{} --subnet 10.80.0.0/16", options(&hint).replace("NAME", "other")));
        }
        for overlapping in ["10.0.0.0/8", "10.78.1.0/24", "fd76:ce11:a4c::/64"] {
            let (_, hint) = complaint(lab, &format!("--bridge other --subnet 10.80.0.0/16 --subnet {overlapping}"));
            is_content(lab, &format!("--bridge other --subnet 10.80.0.0/16 {}", options(&hint)));
        }
        let (_, hint) = complaint(lab, "-p 8081:80");
        assert!(hint.starts_with("take another port"), "{hint}");
        is_content(lab, "-p 8082:80");
        end(first);
        let only = cell(lab, &["--bridge", "tiny", "--subnet", "10.81.0.0/30"]);
        let (_, hint) = complaint(lab, "--bridge tiny");
        assert!(hint.contains("a larger --subnet with another --bridge"), "{hint}");
        is_content(lab, "--bridge wide --subnet 10.82.0.0/24");
        end(only);
        is_content(lab, "--bridge tiny --subnet 10.81.0.0/30");
        sh("ip link delete mine");
    });
}

/// The command in the hint names the holder: one that listens, one that cannot (UDP), one that is connected.
#[test]
fn whatever_holds_the_port() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let found = |options: &str| {
            let (text, hint) = complaint(lab, options);
            assert!(text.contains("EADDRINUSE"), "{text}");
            let command = hint.strip_prefix("the port is in use: ").unwrap_or_else(|| panic!("{hint}"));
            let mut shown = String::new();
            let mut sh = Command::new("sh").args(["-c", command]).stdout(Stdio::piped()).spawn().unwrap();
            sh.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
            assert!(sh.wait().unwrap().success(), "{command}");
            assert!(shown.contains(&format!("pid={},", std::process::id())), "{command}: {shown}");
        };
        let listener = TcpListener::bind("127.0.0.1:8082").unwrap();
        found("-p 8082:80");
        let udp = UdpSocket::bind("127.0.0.1:8083").unwrap();
        found("-p 8083:80/udp");
        udp.connect("127.0.0.1:9").unwrap();
        found("-p 8083:80/udp");
        let client = TcpStream::connect("127.0.0.1:8082").unwrap();
        let port = client.local_addr().unwrap().port();
        found(&format!("-p {port}:80"));
        found("-p 8080-8085:80-85");
        drop((listener, udp, client));
        is_content(lab, "-p 8083:80/udp");
    });
}

#[test]
fn more_ports_than_a_note_holds() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let many: String = (8000..8040).map(|port| format!(" -p {port}:{port}")).collect();
        let (_, hint) = complaint(lab, &many);
        let range = hint.split_once(": ").unwrap_or_else(|| panic!("{hint}")).1;
        is_content(lab, range);
        let after = |command: &str| {
            let launcher = lab.launcher(STEP, &["-p", "20000-24999:20000-24999", "true"]);
            let script = format!("ulimit -Sn 1024; {command}; exec \"$@\"");
            let mut sh = Command::new("sh");
            sh.args(["-c", &script, "sh"]).arg(launcher.get_program()).args(launcher.get_args());
            String::from_utf8(sh.output().unwrap().stderr).unwrap()
        };
        let said = after("true");
        assert!(said.contains("EMFILE"), "{said}");
        let command = said.trim_end().rsplit_once(": ").unwrap().1;
        assert_eq!(after(command), "", "{command}");
    });
}

#[test]
fn an_address_of_this_host() {
    lab!(World::Root, |lab| {
        let _outside = world::World::new();
        let (_, hint) = complaint(lab, "-p 203.0.113.1:8083:80");
        let command = hint.strip_prefix("no link of this host has that address: ").unwrap();
        let listed = Command::new("sh").args(["-c", command]).output().unwrap();
        assert!(String::from_utf8_lossy(&listed.stdout).contains(world::HOST));
        is_content(lab, &format!("-p {}:8083:80", world::HOST));
    });
}

/// In another container, the kernel's settings may be read-only.
#[test]
fn read_only_settings() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["--net", "none", "true"]);
        sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
        let (text, hint) = complaint(lab, "");
        assert!(text.contains("EROFS"), "{text}");
        sh(&hint);
        is_content(lab, "");
        sh("umount /proc/sys");
    });
}

/// Whatever firewall drops what is forwarded: after what the hint says, a cell reaches the world.
#[test]
fn another_firewall() {
    lab!(World::Root, |lab| {
        let _outside = world::World::new();
        sh(&format!("ip route add default via {}", world::WORLD));
        let drops = "type filter hook forward priority 0; policy drop;";
        for table in [
            &format!("table ip filter {{ chain FORWARD {{ {drops} }}; }}"),
            &format!("table inet mine {{ chain everything {{ {drops} }}; chain rest {{ }}; }}"),
            // As Docker makes it.
            &format!("table ip filter {{ chain DOCKER-USER {{ }}; chain FORWARD {{ {drops} jump DOCKER-USER; }}; }}"),
        ] {
            sh(&format!("nft '{table}'"));
            let ping = |seconds| lab.run(STEP, &["ping", "-c", "1", "-W", seconds, world::WORLD]).text;
            assert!(ping("1").contains("100% packet loss"), "it drops indeed");
            let (_, hint) = complaint(lab, "");
            sh(&hint);
            let reached = ping("5");
            assert!(reached.contains(" 0% packet loss"), "{hint}: {reached}");
            let name = table.split(' ').take(3).collect::<Vec<_>>().join(" ");
            sh(&format!("nft delete {name}"));
        }
    });
}
