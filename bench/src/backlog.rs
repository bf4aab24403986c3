//! What is worked off: events in the stream, and the keys that they make stale.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;
use unstale_testkit::{Redis, Resp};

/// How many commands are sent at once.
const TOGETHER: usize = 500;

/// The form that events have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `data` is JSON of 150 bytes.
    Json,
    /// `data` is the same in `MessagePack`.
    MessagePack,
    /// Each attribute is a field.
    Flat,
}

/// The event `SpendUpdated` of the preset `llm-gateway`.
#[derive(Debug, Serialize)]
struct SpendUpdated<'a> {
    key_id: u64,
    key_hash: &'a str,
    amount: f64,
    new_total_spend: f64,
    request_id: String,
}

impl<'a> SpendUpdated<'a> {
    fn new(number: u64, key_hash: &'a str) -> Self {
        Self {
            key_id: 10_000 + number % 90_000,
            key_hash,
            amount: 0.0421,
            new_total_spend: 17.4321,
            request_id: format!("req-{number:026x}"),
        }
    }
}

/// The fields of an event.
///
/// # Panics
/// Never: a plain struct can be written in each form.
pub fn fields(form: Form, number: u64, key_hash: &str) -> Vec<Vec<u8>> {
    let spend = SpendUpdated::new(number, key_hash);
    let mut fields: Vec<Vec<u8>> = vec![b"type".to_vec(), b"SpendUpdated".to_vec()];
    match form {
        Form::Json => fields.extend([b"data".to_vec(), serde_json::to_vec(&spend).expect("a plain struct is JSON")]),
        Form::MessagePack => {
            fields.extend([b"data".to_vec(), rmp_serde::to_vec_named(&spend).expect("a plain struct is MessagePack")]);
        }
        Form::Flat => {
            let texts = [
                ("key_id", spend.key_id.to_string()),
                ("key_hash", spend.key_hash.to_owned()),
                ("amount", spend.amount.to_string()),
                ("new_total_spend", spend.new_total_spend.to_string()),
                ("request_id", spend.request_id),
            ];
            fields.extend(texts.into_iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.into_bytes()]));
        }
    }
    fields
}

/// The hash of a key, by its number.
pub fn hash(number: u64) -> String {
    format!("{:032x}", u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// The key that an event with this hash makes stale.
pub fn key(hash: &str) -> String {
    format!("vkey:{hash}")
}

/// Sends commands, many at a time.
///
/// # Panics
/// If one fails.
pub fn send<A: AsRef<[u8]>>(resp: &mut Resp, commands: impl IntoIterator<Item = Vec<A>>) {
    let mut commands = commands.into_iter();
    loop {
        let some: Vec<Vec<A>> = commands.by_ref().take(TOGETHER).collect();
        if some.is_empty() {
            return;
        }
        resp.pipeline(&some);
    }
}

/// Makes these keys be there.
///
/// # Panics
/// If the server refuses.
pub fn seed(resp: &mut Resp, keys: &[String]) {
    let set =
        |some: &[String]| ["MSET".to_owned()].into_iter().chain(some.iter().flat_map(|key| [key.clone(), "value".to_owned()])).collect();
    send(resp, keys.chunks(1000).map(set).collect::<Vec<Vec<String>>>());
}

/// How many of these keys are there.
///
/// # Panics
/// If the server refuses.
pub fn present(resp: &mut Resp, keys: &[String]) -> i64 {
    let exists = |some: &[String]| resp.cmd(&["EXISTS".to_owned()].into_iter().chain(some.iter().cloned()).collect::<Vec<_>>()).int();
    keys.chunks(1000).map(exists).sum()
}

/// An event, and the key that it makes stale.
#[derive(Debug, Clone)]
pub struct Event {
    /// The fields of its entry.
    pub fields: Vec<Vec<u8>>,
    /// Its key.
    pub key: String,
}

/// So many events in this form on so many keys: each key as often as the others, in an order that is random and always the same.
pub fn spread(form: Form, events: u64, keys: u64) -> impl Iterator<Item = Event> {
    let mut hashes: Vec<String> = (0..keys).map(hash).collect();
    let mut random = StdRng::seed_from_u64(1);
    let lap = move |lap: u64| {
        hashes.shuffle(&mut random);
        let event = |(number, hash): (u64, &String)| Event { fields: fields(form, number, hash), key: key(hash) };
        (lap * keys..).zip(&hashes).map(event).collect::<Vec<_>>()
    };
    (0..events.div_ceil(keys)).flat_map(lap).zip(0..events).map(|(event, _)| event)
}

/// The entry that an event is, as the command that adds it.
pub fn add(stream: &str, event: Event) -> Vec<Vec<u8>> {
    [b"XADD".to_vec(), stream.into(), b"*".to_vec()].into_iter().chain(event.fields).collect()
}

/// A backlog that is kept in database 1, so that each run can begin with a copy of it.
#[derive(Debug)]
pub struct Backlog {
    name: &'static str,
    /// How many events it has.
    pub events: u64,
    keys: Vec<String>,
}

impl Backlog {
    /// Keeps these events under a name.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn keep(redis: &Redis, name: &'static str, events: impl IntoIterator<Item = Event>) -> Self {
        let mut resp = redis.resp();
        resp.cmd(&["SELECT", "1"]);
        let (mut count, mut keys) = (0, BTreeSet::new());
        let noted = events.into_iter().inspect(|event| {
            count += 1;
            keys.insert(event.key.clone());
        });
        send(&mut resp, noted.map(|event| add(name, event)));
        Self { name, events: count, keys: keys.into_iter().collect() }
    }

    /// Empties database 0 and lays it out: the stream, a group that has read nothing, and the keys.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn lay_out(&self, redis: &Redis) {
        self.empty(redis);
        let mut resp = redis.resp();
        resp.cmd(&["SELECT", "1"]);
        resp.cmd(&["COPY", self.name, "unstale:events", "DB", "0"]);
        resp.cmd(&["SELECT", "0"]);
        resp.cmd(&["XGROUP", "CREATE", "unstale:events", "unstale", "0"]);
    }

    /// Empties database 0 and makes the keys.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn empty(&self, redis: &Redis) {
        let mut resp = redis.resp();
        resp.cmd(&["FLUSHDB"]);
        seed(&mut resp, &self.keys);
    }

    /// Adds all events to the stream in one step, however many read there already.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn pour(&self, redis: &Redis) {
        let script = "local from = '-'
            repeat
              redis.call('SELECT', 1)
              local page = redis.call('XRANGE', ARGV[1], from, '+', 'COUNT', 1000)
              redis.call('SELECT', 0)
              for _, entry in ipairs(page) do
                redis.call('XADD', KEYS[1], '*', unpack(entry[2]))
                from = '(' .. entry[1]
              end
            until #page == 0";
        redis.cmd(&["EVAL", script, "1", "unstale:events", self.name]);
    }

    /// How many of its keys are left.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn left(&self, redis: &Redis) -> i64 {
        present(&mut redis.resp(), &self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_an_event_has_150_bytes() {
        assert_eq!(fields(Form::Json, 4711, &hash(1))[3].len(), 150, "{}", String::from_utf8_lossy(&fields(Form::Json, 4711, &hash(1))[3]));
    }
}
