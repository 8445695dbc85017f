//! Step 4: what a default cell may send to the others on its bridge, and to the host. Each attack is shown twice: as it fails, and
//! as it works where the rule or the setting that holds it is taken away by hand.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use classroom::frames::{self, ARP, ICMP, ICMP6, IP, IP6, Mac, UDP, arp, ethernet, hex, icmp, icmp6, ip4, ip6, udp};
use classroom::world::sh;
use classroom::{Lab, World, check, every_step, lab};

const STEP: &str = "network";
const PORT: u16 = 4444;
/// The bridge's card; each cell's ends with its number.
const BRIDGE: Mac = card(1);
const HOST: Ipv4Addr = v4(1);
const HOST6: Ipv6Addr = v6(1);
/// The cells, in the order in which they are started: the one that is attacked, the one whose name is taken, the attacker.
const VICTIM: u8 = 2;
const FRIEND: u8 = 3;
const ATTACKER: u8 = 4;

const fn card(number: u8) -> Mac {
    [0x02, 0xcb, 10, 76, 0, number]
}

const fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 76, 0, number)
}

const fn v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd76, 0xce11, 0x0a4c, 0, 0, 0, 0, number as u16)
}

/// A cell that runs each line of its standard input.
struct Cell(Child);

impl Cell {
    fn start(lab: &Lab, options: &[&str]) -> Cell {
        let script = "echo up; while read -r line; do eval \"$line\"; echo; echo done; done";
        let mut launcher = lab.launcher(STEP, &[options, &["sh", "-c", script]].concat());
        let mut child = launcher.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(every_step::wait_for_a_line(&mut child), "up\n");
        Cell(child)
    }

    /// What a line prints in there.
    fn run(&mut self, line: &str) -> String {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        let (mut said, mut byte) = (String::new(), [0]);
        while !said.ends_with("\ndone\n") {
            self.0.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            said.push(byte[0].into());
        }
        said.trim_end_matches("\ndone\n").to_owned()
    }

    fn send(&mut self, frames: &[Vec<u8>]) {
        let line: String = frames.iter().map(|frame| format!(" {}", hex(frame))).collect();
        assert_eq!(self.run(&format!("inmate frame{line} 2>&1")), "sent\n");
        sleep(Duration::from_millis(100)); // on a busy machine they are on their way for a moment
    }

    /// What a command of the host's prints, in this cell's network.
    fn look(&self, script: &str) -> String {
        let launcher = self.0.id();
        let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
        host(&format!("nsenter --net --target {} sh -c '{script}'", children.trim()))
    }

    fn set(&self, setting: &str) {
        assert_eq!(self.look(&format!("sysctl -qw {setting}")), "");
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What a command on the host prints.
fn host(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The three cells.
fn three(lab: &Lab) -> [Cell; 3] {
    lab.run(STEP, &["true"]);
    [(); 3].map(|()| Cell::start(lab, &[]))
}

/// Takes rules out of the filter: those with one of these words in them. Each is there once.
fn without(words: &[&str]) {
    for word in words {
        let listed = host("nft -a list chain bridge cellblock_cellblock0 own_addresses_only");
        let rule = listed.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}: {listed}"));
        let handle = rule.split("handle ").nth(1).unwrap();
        sh(&format!("nft delete rule bridge cellblock_cellblock0 own_addresses_only handle {handle}"));
    }
}

/// Whether these frames bring a text to a socket of the host's.
fn arrives(socket: &UdpSocket, attacker: &mut Cell, frames: &[Vec<u8>], text: &str) -> bool {
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    attacker.send(frames);
    let mut buffer = [0; 64];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| buffer[..length] == *text.as_bytes())).any(|it| it)
}

fn socket(address: IpAddr) -> UdpSocket {
    UdpSocket::bind((address, PORT)).unwrap()
}

/// A text for the host, from a card and an address.
fn letter(from_card: Mac, from: Ipv4Addr, text: &str) -> Vec<u8> {
    let packet = ip4(from, HOST, UDP, &[], 0, &udp(from.into(), HOST.into(), PORT, text.as_bytes()));
    ethernet(BRIDGE, from_card, IP, &packet)
}

fn letter6(from: Ipv6Addr, text: &str) -> Vec<u8> {
    let packet = ip6(from, HOST6, UDP, &udp(from.into(), HOST6.into(), PORT, text.as_bytes()));
    ethernet(BRIDGE, card(ATTACKER), IP6, &packet)
}

/// A card's address, as the tables of the kernel show it.
fn at(card: Mac) -> String {
    card.map(|byte| format!("{byte:02x}")).join(":")
}

/// The cables that are plugged in.
fn cables() -> Vec<String> {
    let links = host("ip -o link show master cellblock0");
    links.lines().filter_map(|line| Some(line.split([' ', '@']).nth(1)?.to_owned())).collect()
}

#[test]
fn another_cells_card_as_source() {
    lab!(World::Root, |lab| {
        let [_victim, _friend, mut attacker] = three(lab);
        let socket = socket(HOST.into());
        let mut tries =
            |card: Mac, text: &str| arrives(&socket, &mut attacker, &[letter(card, v4(ATTACKER), text)], text);
        assert!(tries(card(ATTACKER), "own"), "its own card");
        assert!(!tries(card(FRIEND), "held"), "its neighbour's card");
        without(&["iifname . ether saddr"]);
        assert!(tries(card(FRIEND), "through"), "its neighbour's card, without the rule");
    });
}

/// In one piece, and in fragments: each bears the source.
#[test]
fn another_cells_address_as_source() {
    lab!(World::Root, |lab| {
        let [_victim, _friend, mut attacker] = three(lab);
        let socket = socket(HOST.into());
        let whole = |from: Ipv4Addr, text: &str| vec![letter(card(ATTACKER), from, text)];
        let fragments = |from: Ipv4Addr, text: &str| {
            let datagram = udp(from.into(), HOST.into(), PORT, text.as_bytes());
            let (first, rest) = datagram.split_at(16);
            let part = |flags, payload| ip4(from, HOST, UDP, &[], flags, payload);
            [part(0x2000, first), part(2, rest)].map(|packet| ethernet(BRIDGE, card(ATTACKER), IP, &packet)).to_vec()
        };
        let mut tries = |frames: Vec<Vec<u8>>, text| arrives(&socket, &mut attacker, &frames, text);
        assert!(tries(whole(v4(ATTACKER), "its own"), "its own"));
        assert!(tries(fragments(v4(ATTACKER), "its own, in two parts"), "its own, in two parts"));
        assert!(!tries(whole(v4(FRIEND), "held"), "held"));
        assert!(!tries(fragments(v4(FRIEND), "held, in two parts"), "held, in two parts"));
        without(&["iifname . ip saddr"]);
        assert!(tries(whole(v4(FRIEND), "through"), "through"), "without the rule");
        assert!(tries(fragments(v4(FRIEND), "through, in two parts"), "through, in two parts"), "without the rule");
    });
}

#[test]
fn another_cells_ipv6_address_as_source() {
    lab!(World::Root, |lab| {
        let [_victim, _friend, mut attacker] = three(lab);
        let socket = socket(HOST6.into());
        let mut tries = |from: u8, text: &str| arrives(&socket, &mut attacker, &[letter6(v6(from), text)], text);
        assert!(tries(ATTACKER, "own"), "its own address");
        assert!(!tries(FRIEND, "held"), "its neighbour's");
        without(&["ip6 saddr != ::"]);
        assert!(tries(FRIEND, "through"), "its neighbour's, without the rule");
    });
}

#[test]
fn a_false_sender_of_arp() {
    lab!(World::Root, |lab| {
        let [mut victim, _friend, mut attacker] = three(lab);
        for neighbour in [FRIEND, ATTACKER] {
            assert!(victim.run(&format!("ping -c 1 -W 3 {}", v4(neighbour))).contains(" 0% packet loss"));
        }
        let mut tries = |its_card: Mac, address: Ipv4Addr| {
            attacker.send(&[ethernet(card(VICTIM), card(ATTACKER), ARP, &arp(its_card, address))]);
            victim.look(&format!("ip neighbour show {address}"))
        };
        let others_address = tries(card(ATTACKER), v4(FRIEND));
        assert!(others_address.contains(&at(card(FRIEND))), "{others_address}");
        let others_card = tries(card(FRIEND), v4(ATTACKER));
        assert!(others_card.contains(&at(card(ATTACKER))), "{others_card}");
        without(&["arp saddr ip !=", "iifname . arp saddr ether"]);
        let others_address = tries(card(ATTACKER), v4(FRIEND));
        assert!(others_address.contains(&at(card(ATTACKER))), "without the rule: {others_address}");
        let others_card = tries(card(FRIEND), v4(ATTACKER));
        assert!(others_card.contains(&at(card(FRIEND))), "without the rule: {others_card}");
    });
}

/// The claim of a neighbour's address: as a whole, and in two fragments, of which the first says what it is and the second what it is
/// about. Where br_netfilter is, the bridge puts the fragments together again.
fn claims(from: u8, claimed: u8) -> [Vec<Vec<u8>>; 2] {
    let [from, to, claimed] = [from, VICTIM, claimed].map(v6);
    let message = icmp6(from, to, 136, [0x20, 0, 0, 0], &frames::neighbour(card(ATTACKER), claimed));
    let frame = |next, payload: &[u8]| ethernet(card(VICTIM), card(ATTACKER), IP6, &ip6(from, to, next, payload));
    let part = |offset: u8, payload: &[u8]| {
        frame(frames::FRAGMENT, &[&[ICMP6, 0, 0, offset, 0, 0, 0, 7][..], payload].concat())
    };
    [vec![frame(ICMP6, &message)], vec![part(1, &message[..8]), part(8, &message[8..])]]
}

#[test]
fn a_false_neighbour_advertisement() {
    lab!(World::Root, |lab| {
        let [mut victim, _friend, mut attacker] = three(lab);
        let meet = format!("ping -c 1 -W 3 {}", v6(FRIEND));
        assert!(victim.run(&meet).contains(" 0% packet loss"));
        let mut knows = |frames: &[Vec<u8>], owner: u8| {
            victim.look(&format!("ip neighbour change {} lladdr {} dev eth0 nud stale", v6(FRIEND), at(card(FRIEND))));
            attacker.send(frames);
            let known = victim.look(&format!("ip neighbour show {}", v6(FRIEND)));
            assert!(known.contains(&at(card(owner))), "{frames:02x?}: {known}");
        };
        let [whole, parts] = claims(ATTACKER, FRIEND);
        knows(&whole, FRIEND);
        knows(&parts, FRIEND);
        without(&["nd-neighbor-advert"]);
        knows(&parts, FRIEND);
        knows(&whole, ATTACKER); // the wrong output
        without(&["frag"]);
        // And this one, where the bridge puts them together; else the neighbour throws them away (RFC 6980).
        let together = fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-ip6tables").is_ok_and(|it| it == "1\n");
        knows(&parts, if together { ATTACKER } else { FRIEND });
    });
}

/// Filter and settings each hold it alone. Without both, a cell is the host's router, and another cell's.
#[test]
fn a_false_router() {
    lab!(World::Root, |lab| {
        let [victim, _friend, mut attacker] = three(lab);
        let mut advertise = || assert!(attacker.run("inmate advertise fd99:: 2>&1").ends_with("sent\n"));
        let learned = || [host("ip -6 route show proto ra"), victim.look("ip -6 route show proto ra")].concat();
        advertise();
        assert_eq!(learned(), "");
        sh("sysctl -qw net.ipv6.conf.cellblock0.accept_ra=2");
        victim.set("net.ipv6.conf.eth0.accept_ra=2");
        advertise();
        assert_eq!(learned(), "", "the filter holds it");
        without(&["nd-router-advert"]);
        advertise();
        let ways = learned();
        assert!(ways.contains("default via fe80::cb:aff:fe4c:4 dev cellblock0"), "the wrong output: {ways}");
        assert!(ways.contains("default via fe80::cb:aff:fe4c:4 dev eth0"), "the wrong output: {ways}");
        sh("ip -6 route flush proto ra; sysctl -qw net.ipv6.conf.cellblock0.accept_ra=0");
        victim.set("net.ipv6.conf.eth0.accept_ra=0");
        victim.look("ip -6 route flush proto ra");
        advertise();
        assert_eq!(learned(), "", "the settings hold it");
    });
}

/// The story that the book tells: on our bridge, and on one without the filter and the setting.
#[test]
fn a_false_router_told() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let mut attacker = Cell::start(lab, &[]);
        let on_host = |script: &str| format!("host# {script}\n{}", host(script));
        let mut in_cell = |script: &str| format!("cell# {script}\n{}", attacker.run(&format!("{script} 2>/dev/null")));
        let (attack, look) = ("inmate advertise fd99::", "ip -6 route show default");
        let story = [
            in_cell(attack),
            on_host(look),
            on_host("nft flush ruleset"),
            on_host("sysctl -w net.ipv6.conf.cellblock0.accept_ra=2"),
            in_cell(attack),
            on_host(look),
        ];
        let told = story.concat();
        // The seconds that are left vary.
        let rest = told.split_once(" expires ").and_then(|(before, after)| Some((before, after.split_once("sec ")?.1)));
        let (before, after) = rest.unwrap_or_else(|| panic!("the host has learned it: {told}"));
        check!("network_false_router", format!("{before} expires 1800sec {after}"));
    });
}

/// A cell says, in its router's name, that there is a better way: by itself.
#[test]
fn a_false_redirect() {
    lab!(World::Root, |lab| {
        let [victim, _friend, mut attacker] = three(lab);
        assert!(attacker.run("ping -c 1 -W 3 10.76.0.2").contains(" 0% packet loss"), "they know one another");
        let world = Ipv4Addr::new(198, 51, 100, 2);
        let question = ip4(v4(VICTIM), world, ICMP, &[], 0, &icmp(0, 0, [0; 4], &[]));
        let redirect = ip4(HOST, v4(VICTIM), ICMP, &[], 0, &icmp(5, 1, v4(ATTACKER).octets(), &question));
        let redirect = ethernet(card(VICTIM), card(ATTACKER), IP, &redirect);
        let mut way = || {
            attacker.send(&[redirect.clone(), redirect.clone()]);
            victim.look("ip route get 198.51.100.2")
        };
        assert!(way().contains("via 10.76.0.1 "));
        victim.set("net.ipv4.conf.all.accept_redirects=1");
        assert!(way().contains("via 10.76.0.1 "), "the filter holds it");
        without(&["iifname . ip saddr", "icmp type"]);
        victim.set("net.ipv4.conf.all.accept_redirects=0");
        assert!(way().contains("via 10.76.0.1 "), "the settings hold it");
        victim.set("net.ipv4.conf.all.accept_redirects=1");
        let way = way();
        assert!(way.contains("via 10.76.0.4 "), "the wrong output: {way}");
    });
}

#[test]
fn a_false_redirect_of_ipv6() {
    lab!(World::Root, |lab| {
        let [victim, _friend, mut attacker] = three(lab);
        assert!(attacker.run(&format!("ping -c 1 -W 3 {}", v6(VICTIM))).contains(" 0% packet loss"));
        // Only a router's own link-local address may redirect; our cells know the router by another. One that knows that:
        let [router, by]: [Ipv6Addr; 2] = [1, 4].map(|number| format!("fe80::cb:aff:fe4c:{number}").parse().unwrap());
        victim.look(&format!("ip -6 route replace default via {router} dev eth0"));
        let world: Ipv6Addr = "2001:db8::2".parse().unwrap();
        let question = ip6(v6(VICTIM), world, ICMP6, &icmp6(v6(VICTIM), world, 128, [0; 4], &[]));
        let asked = [&[4, (question.len() / 8 + 1) as u8, 0, 0, 0, 0, 0, 0][..], &question].concat();
        let body = [&by.octets()[..], &world.octets(), &[2, 1], &card(ATTACKER), &asked].concat();
        let redirect = ip6(router, v6(VICTIM), ICMP6, &icmp6(router, v6(VICTIM), 137, [0; 4], &body));
        let redirect = ethernet(card(VICTIM), card(ATTACKER), IP6, &redirect);
        let mut way = || {
            attacker.send(&[redirect.clone(), redirect.clone()]);
            victim.look("ip -6 route get 2001:db8::2")
        };
        let allow = |value: u8| {
            victim.set(&format!(
                "net.ipv6.conf.eth0.accept_redirects={value} net.ipv6.conf.all.accept_redirects={value}"
            ));
        };
        let router = format!("via {router} ");
        assert!(way().contains(&router));
        allow(1);
        assert!(way().contains(&router), "the filter holds it");
        without(&["ip6 saddr != ::", "nd-redirect"]);
        allow(0);
        assert!(way().contains(&router), "the settings hold it");
        allow(1);
        let way = way();
        assert!(way.contains(&by.to_string()), "the wrong output: {way}");
    });
}

/// The sender of a packet names its way (RFC 791). The machine's setting for all links may allow that; our bridge's does not.
#[test]
fn a_source_route() {
    lab!(World::Root, |lab| {
        let [_victim, _friend, mut attacker] = three(lab);
        let socket = socket(HOST.into());
        let route = [131, 7, 8, 10, 76, 0, 2, 0]; // loosely, by way of the victim, where it has been
        let mut tries = |text: &str| {
            let datagram = udp(v4(ATTACKER).into(), HOST.into(), PORT, text.as_bytes());
            let packet = ip4(v4(ATTACKER), HOST, UDP, &route, 0, &datagram);
            arrives(&socket, &mut attacker, &[ethernet(BRIDGE, card(ATTACKER), IP, &packet)], text)
        };
        sh("sysctl -qw net.ipv4.conf.all.accept_source_route=1");
        assert!(!tries("held"));
        sh("sysctl -qw net.ipv4.conf.cellblock0.accept_source_route=1");
        assert!(tries("through"), "the wrong output");
    });
}

/// Another firewall's reload throws all rules away, until the next launch. What was told and not learned holds meanwhile.
#[test]
fn after_a_reload_of_the_firewall() {
    lab!(World::Root, |lab| {
        let [mut victim, _friend, mut attacker] = three(lab);
        assert!(victim.run("ping -c 1 -W 3 10.76.0.1").contains(" 0% packet loss"));
        sh("nft flush ruleset");
        let claim = |address| ethernet(frames::ALL, card(ATTACKER), ARP, &arp(card(ATTACKER), address));
        let its_card = letter(card(FRIEND), v4(ATTACKER), "I have its card");
        let mut attack = || {
            attacker.send(&[claim(HOST), claim(v4(FRIEND)), its_card.clone()]);
            let seen = [victim.look("ip neighbour show 10.76.0.1"), host("ip neighbour show 10.76.0.3")];
            let reached = host("busybox ping -c 1 -W 1 10.76.0.3").contains(" 0% packet loss");
            (seen[0].contains(&at(BRIDGE)), seen[1].contains(&at(card(FRIEND))), reached)
        };
        assert_eq!(attack(), (true, true, true), "the victim's router, the host's cell, and the cell is reached");
        let its_entry = format!("{} dev cb", at(card(FRIEND)));
        for cable in cables() {
            sh(&format!("bridge link set dev {cable} learning on"));
        }
        let entries = host("bridge fdb show br cellblock0");
        let entry = entries.lines().find(|line| line.starts_with(&its_entry)).unwrap_or_else(|| panic!("{entries}"));
        let cable = entry.split(' ').nth(2).unwrap();
        sh(&format!("bridge fdb delete {} dev {cable} master", at(card(FRIEND))));
        sh("ip neighbour change 10.76.0.3 lladdr 02:cb:0a:4c:00:03 dev cellblock0 nud reachable");
        victim.look("ip neighbour change 10.76.0.1 lladdr 02:cb:0a:4c:00:01 dev eth0 nud reachable");
        assert_eq!(attack(), (false, false, false), "the wrong output, where all is learned");
        drop(Cell::start(lab, &[]));
        let rules = host("nft list chain bridge cellblock_cellblock0 own_addresses_only");
        assert!(rules.contains("iifname . ether saddr"), "the next launch has seen it: {rules}");
    });
}

/// The host's own 127.0.0.1 is reached from no cell: by the rules, and without them where no port is published.
#[test]
fn the_hosts_loopback() {
    lab!(World::Root, |lab| {
        let [_victim, _friend, mut attacker] = three(lab);
        let socket = socket(Ipv4Addr::LOCALHOST.into());
        let mut tries = |text: &str| {
            let datagram = udp(v4(ATTACKER).into(), Ipv4Addr::LOCALHOST.into(), PORT, text.as_bytes());
            let packet = ip4(v4(ATTACKER), Ipv4Addr::LOCALHOST, UDP, &[], 0, &datagram);
            arrives(&socket, &mut attacker, &[ethernet(BRIDGE, card(ATTACKER), IP, &packet)], text)
        };
        assert!(!tries("held"));
        let publisher = Cell::start(lab, &["-p", "127.0.0.1:8080:80"]);
        assert!(!tries("held by the rules"));
        drop(publisher);
        sh("nft flush ruleset");
        assert!(!tries("held by the kernel"));
        sh("sysctl -qw net.ipv4.conf.cellblock0.route_localnet=1");
        assert!(tries("through"), "the wrong output");
    });
}

/// The filter's sets have the cables that are plugged in, also after a launcher was killed.
#[test]
fn the_filters_members() {
    lab!(World::Root, |lab| {
        let [_victim, mut friend, attacker] = three(lab);
        friend.0.kill().unwrap();
        friend.0.wait().unwrap();
        drop(attacker);
        assert!((0..100).any(|_| cables().len() == 1 || {
            sleep(Duration::from_millis(20));
            false
        }));
        let _next = Cell::start(lab, &["--mac", "02:00:00:00:00:07"]);
        for (set, each) in [("cables", 1), ("cards", 1), ("own_v4", 1), ("own_v6", 2), ("own_targets", 2)] {
            let members = host(&format!("nft list set bridge cellblock_cellblock0 {set}"));
            assert_eq!(members.matches("\"cb").count(), 2 * each, "{members}");
            assert!(cables().iter().all(|cable| members.matches(cable.as_str()).count() == each), "{members}");
        }
        assert!(host("nft list set bridge cellblock_cellblock0 cards").contains("02:00:00:00:00:07"));
    });
}
