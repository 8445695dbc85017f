//! Step 4, the visiting room: who can reach whom, and what is left when all have gone.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use classroom::trace::orphans_end_within;
use classroom::world::{self, HOST, WORLD, fetch, sh};
use classroom::{Lab, World, check, every_step, lab};

const STEP: &str = "network";

/// Starts a server in a cell that answers each request for /page with `page`.
fn serve(lab: &Lab, page: &str, options: &[&str]) -> Child {
    let script = format!("echo {page} > /tmp/page; echo up; exec httpd -f -p 80 -h /tmp");
    let arguments = [options, &["--tmpfs", "/tmp", "--init", "sh", "-c", &script]].concat();
    let mut child = lab.launcher(STEP, &arguments).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(every_step::wait_for_a_line(&mut child), "up\n");
    child
}

/// Waits until `count` cables are plugged in: the kernel removes those of killed cells in the background. A bridge that was
/// killed before it had its name (cb....new) is none.
fn cables(count: usize) {
    let links = || fs::read_to_string("/proc/net/dev").unwrap();
    let is_cable = |line: &str| line.trim().starts_with("cb") && !line.contains(".new:");
    let plugged = || links().lines().filter(|line| is_cable(line)).count();
    assert!(
        (0..100).any(|_| plugged() == count || {
            sleep(Duration::from_millis(20));
            false
        }),
        "{count} cables"
    );
}

/// Ends a server as a user would.
fn end(mut child: Child) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(classroom::run::code(child.wait().unwrap()), 143);
}

#[test]
fn inside() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        check!("network_inside", lab.run(STEP, &["sh", "-c", "ip -4 -o address | awk '{print $2, $4}'; ip route"]));
        check!(
            "network_none",
            lab.run(STEP, &["--net", "none", "sh", "-c", "ip -4 -o address | awk '{print $2, $4}'; ip route"])
        );
        check!("network_report", lab.run(STEP, &["--hostname", "cell", "inmate", "report"]));
    });
}

/// The lines of the network: step 3's are as they were.
fn without_mounts(story: &str) -> String {
    let mut skip = false;
    let mut keep = |line: &&str| {
        if line.contains(" > ") {
            skip = line.starts_with("child")
                && !["loopback", "end of the cable", "files", "command"].iter().any(|word| line.contains(word));
        }
        !skip
    };
    story.lines().filter(|line| keep(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn explained() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let tell = || {
            without_mounts(
                &lab.run(STEP, &["--explain", "--hostname", "cell", "--dns", "10.76.0.1", "-p", "8080:80", "true"])
                    .to_string(),
            )
        };
        let story = tell();
        (0..5).for_each(|_| assert_eq!(tell(), story));
        check!("network_explained", story);
    });
}

/// Without a network, and on a bridge, nothing of the host is reached; on the host's network all of it.
#[test]
fn attacks() {
    lab!(World::Root, |lab| {
        let column = |options| classroom::attacks::Column { name: STEP, options, frugal: false, init: false };
        for attack in ["host-port", "abstract-socket"] {
            assert_eq!(lab.attack(column(&["--net", "none"]), attack).word, "HELD", "{attack}");
            assert_eq!(lab.attack(column(&["--net", "bridge"]), attack).word, "HELD", "{attack}");
            assert_eq!(lab.attack(column(&["--net", "host"]), attack).word, "ESCAPED", "{attack}");
        }
    });
}

// The five demonstrations; the third, with ssh, is in 04_ssh.rs.

#[test]
fn a_server_is_reached_from_everywhere() {
    lab!(World::Root, |lab| {
        let outside = world::World::new();
        let server = serve(lab, "hello", &["-p", "8080:80"]);
        assert_eq!(fetch("10.76.0.2:80"), "hello\n", "from the host, by its address");
        assert_eq!(fetch("[fd76:ce11:a4c::2]:80"), "hello\n", "from the host, by IPv6");
        assert_eq!(fetch("127.0.0.1:8080"), "hello\n", "from the host, by its published port");
        assert_eq!(fetch(&format!("{HOST}:8080")), "hello\n", "from the host, by its own address");
        let wget = |url: &str| lab.run(STEP, &["timeout", "3", "wget", "-qO-", url]).text;
        assert_eq!(wget("http://10.76.0.2/page"), "hello\n", "from a neighbour");
        assert_eq!(wget(&format!("http://{HOST}:8080/page")), "hello\n", "from a neighbour, by the published port");
        let visit = |url: &str| outside.sh(&format!("timeout 3 busybox wget -qO- {url}"));
        assert_eq!(visit(&format!("http://{HOST}:8080/page")), "hello\n", "from the world");
        assert_eq!(visit("http://[2001:db8::1]:8080/page"), "hello\n", "from the world, by IPv6");
        outside.sh(&format!("ip route add 10.76.0.0/16 via {HOST}"));
        assert_ne!(visit("http://10.76.0.2/page"), "hello\n", "the world reaches published ports, and nothing else");
        end(server);
        assert!(fetch("127.0.0.1:8080").contains("refused"), "nothing answers any more");
    });
}

/// A cell is led back to itself by its own published port, at each address of the host's. With br_netfilter in the kernel the
/// bridge itself leads it back, out by the port at which it came in; without, the host does.
#[test]
fn a_cell_reaches_itself_by_its_published_port() {
    lab!(World::Root, |lab| {
        let _outside = world::World::new();
        let ask = |at: &str| format!("timeout 5 wget -qO- http://{at}:8080/page;");
        let ask: String = [HOST, "10.76.0.1", "[2001:db8::1]"].map(ask).concat();
        let addresses = "ip -6 address show dev eth0 | grep -c dadfailed";
        let script = format!("echo hello > /tmp/page; httpd -p 80 -h /tmp; sleep 2; {ask} {addresses}; killall httpd");
        let by_bridge = ["iptables", "ip6tables"].map(|kind| format!("/proc/sys/net/bridge/bridge-nf-call-{kind}"));
        let has_both = by_bridge.iter().all(|file| fs::exists(file).unwrap());
        for value in if has_both { &["1", "0"][..] } else { &["as it is"] } {
            by_bridge.iter().filter(|_| has_both).for_each(|file| fs::write(file, value).unwrap());
            let said = lab.run(STEP, &["-p", "8080:80", "--tmpfs", "/tmp", "sh", "-c", &script]).text;
            assert_eq!(said, "hello\nhello\nhello\n0\n", "br_netfilter: {value}");
        }
    });
}

#[test]
fn a_port_of_one_address_only() {
    lab!(World::Root, |lab| {
        let outside = world::World::new();
        let server = serve(lab, "hello", &["-p", "127.0.0.1:8080:80"]);
        assert_eq!(fetch("127.0.0.1:8080"), "hello\n");
        let visit = outside.sh(&format!("timeout 3 busybox wget -qO- http://{HOST}:8080/page"));
        assert!(visit.contains("refused"), "{visit}");
        end(server);
    });
}

#[test]
fn the_world_sees_the_host() {
    lab!(World::Root, |lab| {
        let outside = world::World::new();
        sh(&format!("ip route add default via {WORLD}; ip -6 route add default via 2001:db8::2"));
        let server = outside.start("mkdir -p /tmp/none; exec busybox httpd -f -vv -p 80 -h /tmp/none 2>&1");
        sleep(Duration::from_millis(200));
        let output = lab.run(
            STEP,
            &["sh", "-c", &format!("timeout 3 wget -qO- http://{WORLD}/; timeout 3 wget -qO- http://[2001:db8::2]/")],
        );
        assert!(output.text.contains("404"), "it is answered: {output}");
        let pid = nix::unistd::Pid::from_raw(server.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let log = String::from_utf8_lossy(&server.wait_with_output().unwrap().stdout).into_owned();
        assert!(log.contains(HOST) && log.contains("2001:db8::1"), "it sees the host's addresses: {log}");
        assert!(!log.contains("10.76.0.2") && !log.contains("fd76:"), "and not the cell's: {log}");
        let _ = fs::remove_dir("/tmp/none");
    });
}

#[test]
fn two_servers_on_the_same_port() {
    lab!(World::Root, |lab| {
        let (one, two) = (serve(lab, "one", &[]), serve(lab, "two", &[]));
        assert_eq!((fetch("10.76.0.2:80").as_str(), fetch("10.76.0.3:80").as_str()), ("one\n", "two\n"));
        end(one);
        end(two);
        let first = serve(lab, "first", &["--net", "host"]);
        assert_eq!(fetch("127.0.0.1:80"), "first\n");
        let second = lab.run(STEP, &["--net", "host", "httpd", "-f", "-p", "80"]);
        assert!(second.code != 0 && second.text.contains("Address already in use"), "{second}");
        end(first);
    });
}

#[test]
fn names_are_found() {
    lab!(World::Root, |lab| {
        world::name_server();
        let arguments = ["--dns", "10.76.0.1", "--add-host", "db:10.76.0.9", "--hostname", "cell"];
        let ask = |command: &[&str]| lab.run(STEP, &[&arguments[..], command].concat()).text;
        let answer = ask(&["nslookup", "prison.test"]);
        assert!(answer.contains("192.0.2.7"), "{answer}");
        assert_eq!(ask(&["hostname"]), "cell\n");
        check!(
            "network_names",
            lab.run(STEP, &[&arguments[..], &["sh", "-c", "cat /etc/hostname /etc/hosts /etc/resolv.conf"]].concat())
        );
        let own = fs::read_to_string(lab.rootfs.join("etc/hostname")).unwrap();
        assert_ne!(own, "cell\n", "the root filesystem's own files stay as they are");
    });
}

#[test]
fn udp_is_published_too() {
    lab!(World::Root, |lab| {
        let script = "echo up; exec inmate echo 53";
        let mut child = lab
            .launcher(STEP, &["-p", "5353:53/udp", "--init", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        every_step::wait_for_a_line(&mut child);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut answer = [0; 16];
        let echoed = (0..20).any(|_| {
            sleep(Duration::from_millis(50)); // the server may be starting
            socket.send_to(b"echo?", "127.0.0.1:5353").unwrap();
            socket.recv(&mut answer).is_ok_and(|length| &answer[..length] == b"echo?")
        });
        assert!(echoed, "udp comes back");
        end(child);
    });
}

/// Each port of a range leads to the one at the same place in the other; with the same numbers on both sides, to itself.
#[test]
fn a_range_of_ports() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let script = "for i in 80 81 82 8100 8101; do mkdir /tmp/$i; echo $i > /tmp/$i/page; httpd -p $i -h /tmp/$i; done; echo up; cat";
        let ranges = ["-p", "8000-8002:80-82", "-p", "8100-8101:8100-8101", "--tmpfs", "/tmp"];
        let mut launcher = lab.launcher(STEP, &[&ranges[..], &["sh", "-c", script]].concat());
        let mut server = launcher.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(every_step::wait_for_a_line(&mut server), "up\n");
        for (port, page) in [(8000, "80"), (8001, "81"), (8002, "82"), (8100, "8100"), (8101, "8101")] {
            assert_eq!(fetch(&format!("127.0.0.1:{port}")), format!("{page}\n"));
            assert_eq!(fetch(&format!("10.76.0.1:{port}")), format!("{page}\n"));
        }
        let taken = lab.run(STEP, &["-p", "8002-8010:1-9", "true"]);
        assert!(taken.text.contains("another cell does"), "{taken}");
        let _busy = TcpListener::bind("127.0.0.1:8205").unwrap();
        let taken = lab.run(STEP, &["-p", "8200-8210:1-11", "true"]);
        assert!(taken.text.contains("hint: the port is in use: ss -anp 'sport >= 8200 and sport <= 8210'"), "{taken}");
        drop(server.stdin.take());
        server.wait().unwrap();
    });
}

/// What a cell sends gets out whole: by the smallest of the host's ways.
#[test]
fn packets_as_large_as_get_out() {
    lab!(World::Root, |lab| {
        let _outside = world::World::new();
        let sizes = || lab.run(STEP, &["sh", "-c", "ip link show eth0 | grep -o 'mtu [0-9]*'"]).text;
        assert_eq!(sizes(), "mtu 1500\n", "without a way out");
        sh(&format!("ip route add default via {WORLD}; ip link set uplink mtu 1420"));
        assert_eq!(sizes(), "mtu 1420\n", "as of a tunnel");
        let mut killed = serve(lab, "hello", &[]);
        assert_eq!(sizes(), "mtu 1420\n", "on the bridge that is there");
        killed.kill().unwrap();
        killed.wait().unwrap();
        cables(0);
        assert_eq!(sizes(), "mtu 1420\n", "and on one that was empty meanwhile");
        sh("ip link set uplink mtu 9000");
        assert_eq!(sizes(), "mtu 9000\n", "large ones");
        sh("ip link set uplink mtu 600");
        assert_eq!(sizes(), "mtu 1280\n", "IPv6 needs that");
    });
}

// What is handed out must come back.

/// A cell that says its address, pings its gateway, and waits for its standard input to close.
fn guest(lab: &Lab) -> Child {
    let script =
        "ip -4 -o address show eth0 | awk '{print $4}'; ping -c 1 -W 5 10.76.0.1 | grep -c ' 0% packet loss'; cat";
    let mut launcher = lab.launcher(STEP, &["sh", "-c", script]);
    launcher.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn sixty_four_at_once() {
    lab!(World::Root, |lab| {
        let guests: Vec<Child> = (0..64).map(|_| guest(lab)).collect();
        // All are there before the first may leave.
        let mut talks: Vec<_> =
            guests.into_iter().map(|mut guest| (BufReader::new(guest.stdout.take().unwrap()), guest)).collect();
        let mut said = Vec::new();
        for (output, _) in &mut talks {
            let mut lines = [String::new(), String::new()];
            for line in &mut lines {
                output.read_line(line).unwrap();
            }
            said.push(lines);
        }
        assert!(said.iter().all(|lines| lines[1] == "1\n"), "each pings its gateway: {said:?}");
        let addresses: BTreeSet<&String> = said.iter().map(|lines| &lines[0]).collect();
        assert_eq!(addresses.len(), 64, "each has an address of its own");
        talks.iter_mut().for_each(|(_, guest)| drop(guest.stdin.take()));
        talks.iter_mut().for_each(|(_, guest)| assert!(guest.wait().unwrap().success()));
    });
}

/// The veth goes with its namespace; the bridge and its rules are taken over by the next start, which cannot fail
/// because of them, and removed with the last cell.
#[test]
fn killed_at_twenty_moments() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        for round in 0..20 {
            let mut child = lab.start(STEP, &["--ip", "10.76.0.9", "-p", "8080:80", "sleep", "20"]);
            sleep(Duration::from_micros(round * 1500));
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(orphans_end_within(Duration::from_secs(3)), "a process outlived its launcher");
            if round % 2 == 0 {
                let next = lab.run(STEP, &["--ip", "10.76.0.9", "-p", "8080:80", "true"]);
                assert_eq!(
                    (next.code, next.text.as_str()),
                    (0, ""),
                    "the next start, after a kill at {} ms",
                    round * 3 / 2
                );
            }
        }
        cables(0);
        lab.run(STEP, &["--prune"]);
        assert!(
            !fs::read_to_string("/proc/net/dev").unwrap().contains(" cb"),
            "--prune removes a bridge without a name"
        );
    });
}

/// Each word of the launchers' own is an option: a program of any name can be run.
#[test]
fn a_program_may_be_called_prune() {
    lab!(World::Root, |lab| {
        for step in ["network", "cgroups", "privileges"] {
            let said = lab.run(step, &["--net", "none", "prune"]);
            assert!(said.code == 127 && said.text.contains("prune"), "it is looked for in the cell: {said}");
            let said = lab.run(step, &["--net", "none", "--prune", "true"]);
            assert!(said.code == 125 && said.text.contains("cannot be used with"), "{said}");
        }
    });
}

#[test]
fn prune_removes_what_a_crash_left() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let mut server = serve(lab, "hello", &["-p", "8080:80"]);
        let living = lab.run(STEP, &["--prune"]);
        assert_eq!(living.text, "", "a bridge with a cell on it stays");
        assert_eq!(fetch("127.0.0.1:8080"), "hello\n");
        server.kill().unwrap();
        server.wait().unwrap();
        cables(0);
        sh(
            "nft add table inet cellblock_lost; ip link add half type bridge; ip link set half alias 'cellblock: half-made'; \
             ip link add stranger address 02:cb:00:00:00:01 type bridge",
        );
        check!("network_prune", lab.run(STEP, &["--prune"]));
        assert_eq!(lab.run(STEP, &["--prune"]).text, "", "nothing is left");
        sh("ip link delete stranger"); // it is there: a card's address does not make a bridge ours
    });
}

/// Rules of a cell that was killed would lead to whoever has its address next.
#[test]
fn stale_rules_lead_nowhere() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let neighbour = serve(lab, "neighbour", &["--ip", "10.76.0.200"]);
        let mut killed = serve(lab, "killed", &["--ip", "10.76.0.9", "-p", "8080:80"]);
        killed.kill().unwrap();
        killed.wait().unwrap();
        cables(1);
        let next = serve(lab, "next", &["--ip", "10.76.0.9"]);
        assert_eq!(fetch("10.76.0.9:80"), "next\n");
        assert!(fetch("127.0.0.1:8080").contains("refused"), "the port was the other cell's");
        end(next);
        end(neighbour);
    });
}

/// Somebody may flush all tables, as a restart of the nftables service does.
#[test]
fn flushed_rules_come_back() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let server = serve(lab, "hello", &["-p", "8080:80"]);
        sh("nft flush ruleset");
        assert_ne!(fetch("127.0.0.1:8080"), "hello\n");
        lab.run(STEP, &["true"]);
        assert_eq!(fetch("127.0.0.1:8080"), "hello\n", "the next launch has seen that they were gone");
        end(server);
    });
}

#[test]
fn two_bridges_do_not_collide() {
    lab!(World::Root, |lab| {
        let one = serve(lab, "one", &[]);
        let two = serve(lab, "two", &["--bridge", "other", "--subnet", "10.78.0.0/24", "--mac", "02:00:00:00:00:07"]);
        assert_eq!((fetch("10.76.0.2:80").as_str(), fetch("10.78.0.2:80").as_str()), ("one\n", "two\n"));
        end(one);
        assert_eq!(fetch("10.78.0.2:80"), "two\n", "the other's end is not its own");
        end(two);
    });
}

#[test]
fn another_firewall_is_named() {
    lab!(World::Root, |lab| {
        let outside = world::World::new();
        sh("nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'");
        lab.run(STEP, &["true"]);
        check!("network_firewall", lab.run(STEP, &["true"]));
        let ping = ["ping", "-c", "1", "-W", "1", WORLD];
        sh(&format!("ip route add default via {WORLD}"));
        assert_ne!(lab.run(STEP, &ping).code, 0, "it drops indeed");
        sh(
            "nft insert rule ip filter FORWARD iifname cellblock0 accept; nft insert rule ip filter FORWARD oifname cellblock0 accept",
        );
        assert_eq!(lab.run(STEP, &ping).code, 0, "and the remedy helps");
        sh("nft delete table ip filter");
        drop(outside);
    });
}

#[test]
fn failures() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let server = serve(lab, "hello", &["--ip", "10.76.0.9", "-p", "8081:80"]);
        let _taken = TcpListener::bind("127.0.0.1:8082").unwrap();
        sh("ip link add mine type bridge; ip address add 10.79.0.1/16 dev mine; ip link set mine up");
        let more: &[&[&str]] = &[
            &["--ip", "10.76.0.9", "true"],
            &["--ip", "10.77.0.9", "true"],
            &["--ip", "10.76.0.1", "true"],
            &["--ip", "ten", "true"],
            &["--bridge", "other", "--subnet", "10.0.0.0/8", "true"],
            &["--bridge", "other", "--subnet", "10.79.1.0/24", "true"],
            &["--bridge", "other", "--subnet", "10.80.0.1/24", "true"],
            &["--bridge", "mine", "true"],
            &["--bridge", "no-dash", "true"],
            &["--subnet", "10.80.0.0/16", "true"],
            &["-p", "8081:80", "true"],
            &["-p", "8082:80", "true"],
            &["-p", "203.0.113.1:8083:80", "true"],
            &["-p", "80", "true"],
            &["-p", "0:80", "true"],
            &["-p", "8084:80/icmp", "true"],
            &["--net", "none", "-p", "8084:80", "true"],
            &["--net", "moon", "true"],
            &["--mac", "01:00:00:00:00:00", "true"],
            &["--dns", "server", "true"],
            &["--add-host", "db", "true"],
            &["--hostname", "a\n10.0.0.1 bank.example", "true"],
        ];
        check!(
            "network_failures",
            more.iter().map(|arguments| format!("{}\n", lab.run(STEP, arguments))).collect::<String>()
        );
        end(server);
        sh("ip link delete mine");
    });
}

#[test]
fn without_nft() {
    lab!(World::Root, |lab| {
        sh("for dir in /usr/sbin /sbin; do mount -t tmpfs tmpfs $dir; done");
        let output = lab.run(STEP, &["true"]);
        assert_eq!(output.code, 125);
        assert!(output.text.contains("nft is missing") && output.text.contains("apt-get install nftables"), "{output}");
        sh("PATH=/bin:/usr/bin; for dir in /sbin /usr/sbin; do umount $dir; done");
    });
}

#[test]
fn without_rights() {
    lab!(World::User, |lab| {
        let output = lab.run(STEP, &["true"]);
        assert_eq!(output.code, 125);
        assert!(output.text.contains("EPERM") && output.text.contains("hint: only root"), "{output}");
        let output = every_step::as_root(lab, STEP, &["--net", "none", "ip", "-4", "-o", "address"]);
        assert!(
            output.code == 0 && output.text.contains("127.0.0.1/8"),
            "in the sandbox there is none or host: {output}"
        );
    });
}

#[test]
fn exit_codes() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        every_step::exit_codes(lab, STEP, &["--init"]);
        cables(0);
        lab.run(STEP, &["--prune"]);
    });
}

#[test]
fn started_anyhow() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        every_step::started_anyhow(lab, STEP);
    });
}

/// Any user may open the network namespace, and lock it: that keeps nobody waiting.
#[test]
fn a_strangers_lock() {
    lab!(World::Root, |lab| {
        let mut stranger = std::process::Command::new("setpriv");
        let script = "exec 9</proc/self/ns/net; flock 9; echo locked; exec sleep 20";
        stranger.args(["--reuid", "12345", "--regid", "12345", "--clear-groups", "sh", "-c", script]);
        let mut stranger = stranger.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let said = stranger.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut line).unwrap();
        assert_eq!(line, "locked\n");
        let begin = std::time::Instant::now();
        let output = lab.run("network", &["true"]);
        assert!(output.code == 0 && begin.elapsed().as_secs() < 10, "{:?}: {output}", begin.elapsed());
        stranger.kill().and_then(|()| stranger.wait()).unwrap();
    });
}
