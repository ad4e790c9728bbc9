//! What one client address may have. Of IPv6 an address is a network of 64 bits: that is what one client has.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

/// What one address may have; 0 is any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerAddress {
    /// Connections at a time.
    pub connections: usize,
    /// New ones in a second, as many as that at once after a rest.
    pub per_second: u32,
}

/// Who is there.
pub(super) struct Addresses {
    most: PerAddress,
    known: Mutex<HashMap<IpAddr, Known>>,
}

struct Known {
    open: usize,
    /// What is left of a second's new connections.
    left: f64,
    at: Instant,
}

/// A connection of an address, as long as this lives.
pub(super) struct Visit {
    addresses: Arc<Addresses>,
    ip: Option<IpAddr>,
    /// Why it is told to come later.
    pub(super) refused: Option<Arc<str>>,
}

impl Addresses {
    pub(super) fn new(most: PerAddress) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// A new connection. Nothing is had for who has been told so often that it should come later.
    pub(super) fn visit(self: &Arc<Self>, ip: IpAddr) -> Option<Visit> {
        let PerAddress { connections, per_second } = self.most;
        if connections == 0 && per_second == 0 {
            return Some(Visit { addresses: Arc::clone(self), ip: None, refused: None });
        }
        let (ip, now) = (network(ip), Instant::now());
        let mut known = self.known();
        let it = known.entry(ip).or_insert(Known { open: 0, left: per_second.into(), at: now });
        it.left = (it.left + (now - it.at).as_secs_f64() * f64::from(per_second)).min(per_second.into());
        it.at = now;
        let refused = if connections > 0 && it.open >= connections {
            Some(format!(
                "your address has {connections} connections, as many as [server] address_connections allows at once"
            ))
        } else if per_second > 0 && it.left < 1.0 {
            Some(format!(
                "your address may open {per_second} connections a second, as [server] address_connections_per_second has it"
            ))
        } else {
            it.left -= 1.0;
            None
        };
        // Who is refused is there too, until it was told; but not without end.
        if refused.is_some() && connections > 0 && it.open >= connections.saturating_mul(2) {
            return None;
        }
        it.open += 1;
        Some(Visit { addresses: Arc::clone(self), ip: Some(ip), refused: refused.map(Arc::from) })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<IpAddr, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some(ip) = self.ip else { return };
        let mut known = self.addresses.known();
        let Some(it) = known.get_mut(&ip) else { return };
        it.open -= 1;
        // Nobody is remembered who would be let in as if for the first time.
        let rested = it.at.elapsed().as_secs() >= 1 || self.addresses.most.per_second == 0;
        if it.open == 0 && rested {
            known.remove(&ip);
        } else if known.len() > 4096 && known.len() == known.capacity() {
            known.retain(|_, it| it.open > 0 || it.at.elapsed().as_secs() < 1);
        }
    }
}

fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addresses(connections: usize, per_second: u32) -> Arc<Addresses> {
        Arc::new(Addresses::new(PerAddress { connections, per_second }))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_so_many_at_once_and_those_that_it_is_refused_have_an_end() {
        let addresses = addresses(2, 0);
        let visit = |text: &str| addresses.visit(ip(text));
        let refused = |visit: Option<Visit>| visit.expect("told").refused.clone();
        let (one, two) = (visit("192.0.2.1"), visit("::ffff:192.0.2.1"));
        assert!(one.as_ref().is_some_and(|visit| visit.refused.is_none()) && two.is_some());
        let (three, four) = (visit("192.0.2.1").expect("told"), visit("192.0.2.1").expect("told"));
        assert!(three.refused.as_deref().is_some_and(|why| why.contains("2 connections")) && four.refused.is_some());
        assert!(visit("192.0.2.1").is_none(), "it was told often enough");
        assert_eq!(refused(visit("192.0.2.2")), None, "another has its own");
        drop((one, three, four));
        assert_eq!(refused(visit("192.0.2.1")), None);
        drop(two);
        assert!(addresses.known().is_empty(), "nobody is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_opens_so_many_a_second() {
        let addresses = addresses(0, 3);
        let visit = |text: &str| addresses.visit(ip(text)).expect("told").refused.clone();
        for _ in 0..3 {
            assert_eq!(visit("2001:db8::1"), None);
        }
        assert!(visit("2001:db8::2").is_some_and(|why| why.contains("3 connections a second")), "of the same network");
        assert_eq!(visit("2001:db8:0:1::1"), None, "of another");
        tokio::time::advance(Duration::from_millis(334)).await;
        assert_eq!(visit("2001:db8::1"), None);
        assert!(visit("2001:db8::1").is_some());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((0..9).filter(|_| visit("2001:db8::1").is_none()).count(), 3, "a rest saves no more than a second");
    }
}
