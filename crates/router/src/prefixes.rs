//! What is known of a key from how it begins: its owner, and whether it is to be left alone. One walk along the key answers all of it,
//! however many prefixes there are.

use unstale_events::CacheId;

/// A tree with a node for every beginning of a prefix.
#[derive(Debug)]
pub(crate) struct Prefixes {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// The next byte, and the node that it leads to.
    next: Vec<(u8, usize)>,
    owner: Option<CacheId>,
    guard: Option<Guard>,
    exact: Option<Exact>,
}

/// Why everything under a prefix is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    Protected,
    Own,
}

/// Why a single key is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exact {
    Own,
    Counter,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// By the longest prefix.
    pub(crate) owner: Option<CacheId>,
    /// By the longest prefix.
    pub(crate) guard: Option<Guard>,
    /// By the whole key.
    pub(crate) exact: Option<Exact>,
}

impl Default for Prefixes {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Prefixes {
    pub(crate) fn owned(&mut self, prefix: &str, owner: CacheId) {
        self.node(prefix).owner = Some(owner);
    }

    pub(crate) fn guarded(&mut self, prefix: &str, guard: Guard) {
        self.node(prefix).guard = Some(guard);
    }

    pub(crate) fn exact(&mut self, key: &str, exact: Exact) {
        self.node(key).exact = Some(exact);
    }

    pub(crate) fn find(&self, key: &[u8]) -> Found {
        let mut found = Found::default();
        let mut node = &self.nodes[0];
        for byte in key {
            match node.next.iter().find(|(next, _)| next == byte) {
                Some((_, next)) => node = &self.nodes[*next],
                None => return found,
            }
            found.owner = node.owner.or(found.owner);
            found.guard = node.guard.or(found.guard);
        }
        Found { exact: node.exact, ..found }
    }

    /// The node of a text, made if it isn't there.
    fn node(&mut self, text: &str) -> &mut Node {
        let mut at = 0;
        for byte in text.bytes() {
            let known = self.nodes[at].next.iter().find(|(next, _)| *next == byte).map(|(_, next)| *next);
            at = known.unwrap_or_else(|| {
                self.nodes.push(Node::default());
                let made = self.nodes.len() - 1;
                self.nodes[at].next.push((byte, made));
                made
            });
        }
        &mut self.nodes[at]
    }
}
