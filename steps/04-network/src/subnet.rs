//! Subnets: a base address and how many of its bits they share. Both families count alike, in 128 bits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses: `10.76.0.0/16`, `fd76::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    base: IpAddr,
    /// The number of bits that all its addresses share.
    pub prefix: u8,
}

impl Subnet {
    /// The addresses that share the first `prefix` bits with `base`.
    pub fn new(base: IpAddr, prefix: u8) -> Subnet {
        let whole = Subnet { base, prefix };
        Subnet { base: whole.address(number(base) & !whole.host_bits()), prefix }
    }

    /// The IPv6 subnet that goes with an IPv4 one: a private prefix (RFC 4193) with the IPv4 base in it, so that two
    /// bridges never get the same.
    pub fn companion(v4: Subnet) -> Subnet {
        let base = number(v4.base) as u32;
        let (high, low) = ((base >> 16) as u16, base as u16);
        Subnet { base: Ipv6Addr::new(0xfd76, 0xce11, high, low, 0, 0, 0, 0).into(), prefix: 64 }
    }

    /// One for a bridge that overlaps none of these, if there is any.
    pub fn free(taken: &[Subnet], v4: bool) -> Subnet {
        let private = (76..=255).map(|second| Subnet { base: Ipv4Addr::new(10, second, 0, 0).into(), prefix: 16 });
        let small = (0..=255).map(|third| Subnet { base: Ipv4Addr::new(192, 168, third, 0).into(), prefix: 24 });
        let mut all = private.chain(small).map(|subnet| (subnet, Subnet::companion(subnet)));
        let is_free = |subnet: &Subnet| taken.iter().all(|other| !other.overlaps(subnet));
        let found = all.find(|(subnet, companion)| is_free(subnet) && is_free(companion));
        let (subnet, companion) = found.unwrap_or_else(|| {
            let last = Subnet { base: Ipv4Addr::new(172, 31, 0, 0).into(), prefix: 16 };
            (last, Subnet::companion(last))
        });
        if v4 { subnet } else { companion }
    }

    /// The address with that number, counted from the base: 1 is the bridge's, cells begin at 2.
    pub fn host(&self, number_in_here: u32) -> IpAddr {
        self.address(number(self.base) + u128::from(number_in_here))
    }

    /// The number of an address, counted from the base; `None` if it lies elsewhere.
    pub fn number_of(&self, address: IpAddr) -> Option<u32> {
        self.contains(address).then(|| u32::try_from(number(address) - number(self.base)).ok()).flatten()
    }

    /// The highest number that a cell may have. The last IPv4 address is the broadcast address.
    pub fn last(&self) -> u32 {
        u32::try_from(self.host_bits() - 1).unwrap_or(u32::MAX)
    }

    /// Whether the address lies in here.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_v4() == address.is_ipv4() && number(address) & !self.host_bits() == number(self.base)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }

    /// Whether it is an IPv4 subnet.
    pub fn is_v4(&self) -> bool {
        self.base.is_ipv4()
    }

    fn host_bits(&self) -> u128 {
        let bits = if self.is_v4() { 32 } else { 128 } - u32::from(self.prefix);
        1_u128.checked_shl(bits).map_or(u128::MAX, |size| size - 1)
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.is_v4() { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Subnet, String> {
        let (base, prefix) = text.split_once('/').ok_or("it has no prefix length, such as /24")?;
        let base: IpAddr = base.parse().map_err(|_| format!("{base} is not an address"))?;
        let most = if base.is_ipv4() { 30 } else { 120 };
        let prefix: u8 = prefix.parse().map_err(|_| format!("/{prefix} is not a prefix length"))?;
        if prefix == 0 || prefix > most {
            return Err(format!("the prefix length is 1 to {most}, to leave room for a bridge and a cell"));
        }
        let subnet = Subnet::new(base, prefix);
        if subnet.base != base {
            return Err(format!("{base} is an address in it; the subnet is {subnet}"));
        }
        Ok(subnet)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn counts_addresses() {
        let v4 = subnet("10.76.0.0/16");
        assert_eq!(v4.host(1).to_string(), "10.76.0.1");
        assert_eq!(v4.number_of("10.76.1.2".parse().unwrap()), Some(258));
        assert_eq!(v4.number_of("10.77.0.2".parse().unwrap()), None);
        assert_eq!(v4.last(), 65534);
        assert_eq!(subnet("10.0.0.0/30").last(), 2);
        assert_eq!(Subnet::companion(v4).to_string(), "fd76:ce11:a4c::/64");
        assert_eq!(Subnet::companion(v4).host(2).to_string(), "fd76:ce11:a4c::2");
    }

    #[test]
    fn overlap_is_one_inside_the_other() {
        assert!(subnet("10.0.0.0/8").overlaps(&subnet("10.76.0.0/16")));
        assert!(subnet("10.76.0.0/16").overlaps(&subnet("10.0.0.0/8")));
        assert!(!subnet("10.76.0.0/16").overlaps(&subnet("10.77.0.0/16")));
        assert!(!subnet("fd00::/64").overlaps(&subnet("10.0.0.0/8")));
    }

    #[test]
    fn a_free_one() {
        let taken = ["10.76.0.0/16", "10.77.3.0/24", "fd76:ce11:a4e::/48"].map(subnet);
        assert_eq!(Subnet::free(&taken, true), subnet("10.79.0.0/16"));
        assert_eq!(Subnet::free(&taken, false), subnet("fd76:ce11:a4f::/64"));
        assert_eq!(Subnet::free(&[subnet("10.0.0.0/8")], true), subnet("192.168.0.0/24"));
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in ["", "10.0.0.0", "10.0.0.0/31", "10.0.0.0/0", "10.0.0.1/8", "10.0.0/8", "fd00::/127", "fd00::1/64"]
        {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong:?}");
        }
    }
}
