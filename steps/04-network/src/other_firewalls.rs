//! Other firewalls of the host. At a hook all tables have their say: what one drops, no other can accept.

use anyhow::Result;

use crate::firewall::nft;

/// Another firewall that drops what is forwarded, whatever ours accepts.
#[derive(Debug, PartialEq, Eq)]
pub struct Dropper {
    /// Its table: `ip filter`.
    pub table: String,
    /// The chain at whose end it drops, or else the one that it leaves to others' rules.
    chain: String,
    ufw: bool,
}

impl Dropper {
    /// How to make it let a bridge's packets pass.
    pub fn allow(&self, bridge: &str) -> String {
        if self.table.ends_with(" firewalld") {
            return format!("firewall-cmd --zone=trusted --add-interface={bridge}");
        }
        if self.ufw {
            return format!("ufw route allow in on {bridge}; ufw route allow out on {bridge}");
        }
        let rule = |way: &str| format!("nft insert rule {} {} {way} {bridge} accept", self.table, self.chain);
        format!("{}; {}", rule("iifname"), rule("oifname"))
    }
}

/// Other firewalls that drop what is forwarded, as Docker, ufw and firewalld do.
pub fn who_drops_forwarded() -> Result<Vec<Dropper>> {
    Ok(droppers(&nft("list chains", &["list", "chains"], "")?))
}

fn droppers(listed: &str) -> Vec<Dropper> {
    let mut found: Vec<Dropper> = Vec::new();
    let (mut table, mut chain, mut ufw, mut for_others) = ("", "", false, None);
    for line in listed.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            (table, ufw, for_others) = (name.trim_end_matches(" {"), false, None);
        }
        if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {");
            ufw |= chain == "ufw-user-forward";
            for_others = for_others.or((chain == "DOCKER-USER").then_some(chain));
        }
        let drops = line.contains("policy drop") || table.ends_with(" firewalld");
        if line.starts_with("type filter hook forward") && drops && !table.contains(" cellblock_") {
            found.push(Dropper { table: table.to_owned(), chain: chain.to_owned(), ufw: false });
        }
        // These chains may come before the one that drops, or after it.
        if let Some(dropper) = found.last_mut().filter(|dropper| dropper.table == table) {
            dropper.ufw = ufw;
            dropper.chain = for_others.map_or(dropper.chain.clone(), str::to_owned);
        }
    }
    found.dedup_by(|one, other| one.table == other.table);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_firewall_has_its_own_way_to_let_pass() {
        let listed = "table ip filter {\n\tchain DOCKER-USER {\n\t}\n\tchain FORWARD {\n\t\ttype filter hook forward priority \
                      filter; policy drop;\n\t}\n}\ntable ip6 filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority \
                      filter; policy drop;\n\t}\n\tchain ufw-user-forward {\n\t}\n}\ntable inet mine {\n\tchain f {\n\t\ttype \
                      filter hook forward priority filter; policy drop;\n\t}\n}\ntable inet firewalld {\n\tchain filter_FORWARD \
                      {\n\t\ttype filter hook forward priority filter + 10; policy accept;\n\t}\n}\n";
        let hints: Vec<String> = droppers(listed).iter().map(|dropper| dropper.allow("b")).collect();
        assert_eq!(
            hints,
            [
                "nft insert rule ip filter DOCKER-USER iifname b accept; nft insert rule ip filter DOCKER-USER oifname b accept",
                "ufw route allow in on b; ufw route allow out on b",
                "nft insert rule inet mine f iifname b accept; nft insert rule inet mine f oifname b accept",
                "firewall-cmd --zone=trusted --add-interface=b"
            ]
        );
    }
}
