//! Which node of a cluster has which slot, as one of its nodes told it. Only data: who asks, and when, is in `cluster`.

use std::collections::HashMap;

use crate::fault::{Fault, FaultKind};
use crate::server::Host;
use crate::wire::Reply;

/// How many slots a cluster has.
pub(crate) const SLOTS: usize = 16_384;
/// A slot that nobody has.
const NOBODY: u16 = u16::MAX;

/// A map of the slots. Equal maps say the same, in whatever order they were told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    /// For each slot the place of its node in `masters`.
    owners: Vec<u16>,
    masters: Vec<Host>,
}

/// The slot of a key, by its hash tag if it has one.
pub(crate) fn slot(key: &[u8]) -> u16 {
    fred::util::redis_keyslot(key)
}

impl Map {
    /// Reads an answer to CLUSTER SLOTS: a list of first slot, last slot, and nodes, the master first. `asked` is who gave it.
    pub(crate) fn of(reply: Reply, asked: &Host) -> Result<Self, Fault> {
        let mut map = Self { owners: vec![NOBODY; SLOTS], masters: Vec::new() };
        for range in reply.array()? {
            let mut parts = range.array()?.into_iter();
            let (Some(first), Some(last), Some(master)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(Fault::new(FaultKind::Protocol, "expected a range of slots and its nodes"));
            };
            let owner = map.index(host(master, asked)?)?;
            let (first, last) = (number(&first)?, number(&last)?);
            let owners = map.owners.get_mut(first..=last).ok_or_else(|| Fault::new(FaultKind::Protocol, "expected slots below 16384"))?;
            owners.fill(owner);
        }
        Ok(map.compacted())
    }

    /// The node that has a slot.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Host> {
        self.masters.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// The nodes that have slots.
    pub(crate) fn masters(&self) -> &[Host] {
        &self.masters
    }

    /// How many slots nobody has.
    pub(crate) fn uncovered(&self) -> usize {
        self.owners.iter().filter(|owner| **owner == NOBODY).count()
    }

    /// The same map, but that this node has this slot.
    pub(crate) fn with(&self, slot: u16, owner: Host) -> Result<Self, Fault> {
        let mut map = self.clone();
        let index = map.index(owner)?;
        if let Some(owner) = map.owners.get_mut(usize::from(slot)) {
            *owner = index;
        }
        Ok(map.compacted())
    }

    /// The nodes in the order of their slots, without those that have lost their last.
    fn compacted(self) -> Self {
        let mut places = HashMap::new();
        let mut map = Self { owners: Vec::with_capacity(SLOTS), masters: Vec::new() };
        for owner in self.owners {
            let place = match self.masters.get(usize::from(owner)) {
                None => NOBODY,
                Some(host) => *places.entry(owner).or_insert_with(|| {
                    map.masters.push(host.clone());
                    owner_index(map.masters.len() - 1)
                }),
            };
            map.owners.push(place);
        }
        map
    }

    fn index(&mut self, host: Host) -> Result<u16, Fault> {
        let known = self.masters.iter().position(|known| *known == host);
        let index = known.unwrap_or_else(|| {
            self.masters.push(host);
            self.masters.len() - 1
        });
        u16::try_from(index).ok().filter(|index| *index != NOBODY).ok_or_else(|| Fault::new(FaultKind::Protocol, "expected fewer nodes"))
    }
}

/// There are at most as many owners as slots.
fn owner_index(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(NOBODY)
}

fn number(reply: &Reply) -> Result<usize, Fault> {
    usize::try_from(reply.count()?).map_err(|_| Fault::new(FaultKind::Protocol, "expected a slot"))
}

/// A node: its preferred endpoint, its port, its id, and (7.0) pairs of other endpoints. Without an endpoint it is to be found where the
/// asked one is; `?` is a host name that it was not given.
fn host(node: Reply, asked: &Host) -> Result<Host, Fault> {
    let mut parts = node.array()?.into_iter();
    let (Some(name), Some(port)) = (parts.next(), parts.next()) else {
        return Err(Fault::new(FaultKind::Protocol, "expected a node: an address and a port"));
    };
    let port = u16::try_from(port.count()?).map_err(|_| Fault::new(FaultKind::Protocol, "expected a port"))?;
    let name = if name.is_nil() { "" } else { name.text()? };
    let name = match name {
        "" => asked.name.clone(),
        "?" => parts.nth(1).and_then(ip).unwrap_or_else(|| asked.name.clone()),
        name => name.to_owned(),
    };
    Ok(Host { name, port })
}

fn ip(endpoints: Reply) -> Option<String> {
    let endpoints = endpoints.array().ok()?;
    let ip = endpoints.chunks_exact(2).find(|pair| pair[0].text() == Ok("ip"))?;
    ip[1].text().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn text(text: &'static str) -> Reply {
        Reply::Bulk(Bytes::from_static(text.as_bytes()))
    }

    fn range(first: i64, last: i64, node: Vec<Reply>) -> Reply {
        Reply::Array(vec![Reply::Int(first), Reply::Int(last), Reply::Array(node)])
    }

    fn asked() -> Host {
        Host { name: "seed".to_owned(), port: 1 }
    }

    fn at(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    #[test]
    fn nodes_are_found_by_whatever_endpoint_they_have() {
        let other = Reply::Array(vec![text("ip"), text("10.0.0.3")]);
        let map = Map::of(
            Reply::Array(vec![
                range(0, 10, vec![text("a"), Reply::Int(7000), text("id")]),
                range(11, 20, vec![Reply::Nil, Reply::Int(7001), text("id")]),
                range(21, 30, vec![text(""), Reply::Int(7001), text("id")]),
                range(31, 16383, vec![text("?"), Reply::Int(7002), text("id"), other]),
            ]),
            &asked(),
        )
        .unwrap();
        let owners = [0, 11, 30, 31].map(|slot| map.owner(slot).unwrap().clone());
        assert_eq!(owners, [at("a", 7000), at("seed", 7001), at("seed", 7001), at("10.0.0.3", 7002)]);
        assert_eq!((map.masters().len(), map.uncovered()), (3, 0));
    }

    #[test]
    fn maps_are_equal_if_they_say_the_same() {
        let half = |first, last, name| range(first, last, vec![text(name), Reply::Int(1), text("id")]);
        let map = |ranges| Map::of(Reply::Array(ranges), &asked()).unwrap();
        let told = map(vec![half(0, 8191, "a"), half(8192, 16383, "b")]);
        assert_eq!(told, map(vec![half(8192, 16383, "b"), half(0, 8191, "a")]));
        assert_ne!(told, map(vec![half(0, 8191, "b"), half(8192, 16383, "a")]));
    }

    #[test]
    fn a_slot_that_moves_may_leave_its_node_without_any() {
        let one = |first, last, name| range(first, last, vec![text(name), Reply::Int(1), text("id")]);
        let map = Map::of(Reply::Array(vec![one(0, 0, "a"), one(1, 1, "b")]), &asked()).unwrap();
        assert_eq!((map.owner(2), map.uncovered()), (None, SLOTS - 2));
        let moved = map.with(0, at("b", 1)).unwrap();
        assert_eq!((moved.owner(0), moved.masters()), (Some(&at("b", 1)), [at("b", 1)].as_slice()));
        assert_eq!(moved.with(0, at("c", 1)).unwrap().owner(0), Some(&at("c", 1)));
    }

    #[test]
    fn nonsense_is_a_fault() {
        for reply in [
            Reply::Int(1),
            Reply::Array(vec![range(0, 16384, vec![text("a"), Reply::Int(1)])]),
            Reply::Array(vec![range(5, 2, vec![text("a"), Reply::Int(1)])]),
            Reply::Array(vec![range(0, 1, vec![text("a"), Reply::Int(70_000)])]),
            Reply::Array(vec![range(0, 1, vec![])]),
        ] {
            assert_eq!(Map::of(reply, &asked()).unwrap_err().kind, FaultKind::Protocol);
        }
    }

    #[test]
    fn keys_hash_as_redis_hashes_them() {
        assert_eq!(slot(b"123456789"), 12739);
        assert_eq!(slot(b"{unstale}:events"), slot(b"{unstale}:notices"));
    }
}
