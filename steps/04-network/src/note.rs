//! Our notes on links: what the kernel keeps for us, where every launcher finds it, and forgets with the link.
//!
//! A bridge's note says that it is ours, its subnets, what was switched on for it, and which rules stand. A cable's note is a
//! lease ([`crate::lease`]). A link without such a note is another program's, and is left alone.

use crate::link::{Link, Mac};
use crate::subnet::Subnet;

/// How our notes begin.
pub const OURS: &str = "cellblock ";
/// How the note of a bridge begins until the bridge is complete.
pub const HALF_MADE: &str = "cellblock: half-made";
/// How the name of a bridge begins until it gets its note. No --bridge can have such a name, nor is it easily another's.
pub const NEW: &str = "cb.";
/// How the addresses of our network cards begin.
const OUR_MAC: [u8; 2] = [0x02, 0xcb];

/// How a note says each part of [`Switched`].
const WORDS: [&str; 3] = ["router4", "router6", "no-redirects"];

/// What was switched on for a bridge, and what was off before beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switched {
    /// IPv4's forwarding.
    pub v4: bool,
    /// IPv6's forwarding.
    pub v6: bool,
    /// IPv4 redirects were refused before.
    pub no_redirects: bool,
}

impl Switched {
    /// What a policy's rules say: the family of each that drops.
    pub fn by_policy(rules: &str) -> Switched {
        let drops = |family: &str| rules.contains(&format!("nfproto {family} drop"));
        Switched { v4: drops("ipv4"), v6: drops("ipv6"), no_redirects: false }
    }

    /// Whether nothing was switched on.
    pub fn is_nothing(self) -> bool {
        !self.v4 && !self.v6
    }

    /// What a bridge's note says of forwarding.
    pub fn of(note: &str) -> Switched {
        let [v4, v6, no_redirects] = WORDS.map(|word| note.split(' ').any(|there| there == word));
        Switched { v4, v6, no_redirects }
    }

    /// For a note: each word with a space behind it.
    pub fn words(self) -> String {
        let said = WORDS.iter().zip([self.v4, self.v6, self.no_redirects]);
        said.filter(|(_, is)| *is).map(|(word, _)| format!("{word} ")).collect()
    }

    /// What either of them says.
    pub fn or(self, other: Switched) -> Switched {
        let no_redirects = self.no_redirects || other.no_redirects;
        Switched { v4: self.v4 || other.v4, v6: self.v6 || other.v6, no_redirects }
    }
}

/// Whether a launcher died before the bridge was complete. Its note says so: a bridge of another program may have any address.
pub fn is_half_made(link: &Link) -> bool {
    let is_new = link.name.starts_with(NEW) && link.name.ends_with(".new") && link.note.is_empty();
    let ours = link.mac.is_some_and(|mac| mac.starts_with(&OUR_MAC));
    link.kind == "bridge" && (link.note.starts_with(HALF_MADE) || is_new && ours)
}

/// Whether its note is one of ours.
pub fn is_ours(link: &Link) -> bool {
    subnets_of(link).is_some() || link.kind == "bridge" && link.note.starts_with(HALF_MADE)
}

/// What a bridge's note says; `None` if it is not ours.
pub fn subnets_of(link: &Link) -> Option<Vec<Subnet>> {
    let words = link.note.strip_prefix(OURS).filter(|_| link.kind == "bridge")?.split(' ');
    let subnets: Vec<Subnet> = words.take_while(|word| *word != "rules").map_while(|word| word.parse().ok()).collect();
    subnets.first().is_some_and(Subnet::is_v4).then_some(subnets)
}

/// The note of a complete bridge: its subnets, what was switched on for it, and which rules stand.
pub fn bridge_note(subnets: &[Subnet], switched: Switched, rules: &str) -> String {
    let subnets: String = subnets.iter().map(|subnet| format!("{subnet} ")).collect();
    format!("{OURS}{subnets}{}rules {rules}", switched.words())
}

/// The address of a network card, made from the IP address: a cell that gets an address again has the same card, and no
/// neighbour has to forget the old one first.
pub fn our_mac(v4: Subnet, number: u32) -> Mac {
    let [a, b] = OUR_MAC;
    match v4.host(number) {
        std::net::IpAddr::V4(address) => {
            let [c, d, e, f] = address.octets();
            [a, b, c, d, e, f]
        }
        std::net::IpAddr::V6(_) => [a, b, 0, 0, 0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_was_switched_on() {
        for words in ["", "router4 ", "router6 ", "router4 router6 no-redirects "] {
            let note = format!("cellblock 10.76.0.0/16 {words}rules none");
            assert_eq!(Switched::of(&note).words(), words);
        }
    }
}
