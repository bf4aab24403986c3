//! Dead letters.

use unstale_events::{Code, EntryId, Fields, Reason};
use unstale_source::{Body, EntryLimit, Letter, Letters, LettersConfig};

use crate::{World, fields};

const DEAD: &str = "unstale:events:dead";

fn config() -> LettersConfig {
    LettersConfig {
        stream: DEAD.to_owned(),
        retain: 100_000,
        retain_bytes: 64 << 20,
        entry: EntryLimit::new(1 << 20),
        origin: "api-1-x7f2".to_owned(),
    }
}

fn letter(fields: Fields) -> Letter {
    let reasons = vec![Reason::new(Code::MissingAttribute, "key_hash"), Reason::new(Code::RefusedTarget, "protected")];
    let body = Body { fields, is_cut: false };
    Letter { stream: "unstale:events".to_owned(), id: EntryId { ms: 7, seq: 1 }, body, reasons, deliveries: 2 }
}

/// The newest letter's names and values.
fn newest(world: &World) -> Vec<(String, String)> {
    let log = world.redis.cmd(&["XREVRANGE", DEAD, "+", "-", "COUNT", "1"]);
    let texts = log.array()[0].array()[1].texts();
    texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn length(world: &World) -> i64 {
    world.redis.cmd(&["XLEN", DEAD]).int()
}

#[tokio::test]
async fn a_letter_is_the_entry_and_why() {
    let world = World::start().await;
    let before = world.client.time().await.unwrap().as_millis();
    Letters::new(world.client.clone(), config()).bury(&letter(fields(&[("type", "T"), ("x", "1"), ("x", "2")]))).await.unwrap();
    let mut seen = newest(&world);
    let at = seen.remove(7);
    assert_eq!(at.0, "dead_at");
    assert!((before..before + 60_000).contains(&at.1.parse().unwrap()), "{at:?}");
    let wanted = [
        ("type", "T"),
        ("x", "1"),
        ("x", "2"),
        ("dead_reason", "missing_attribute: key_hash; refused_target: protected"),
        ("dead_entry", "7-1"),
        ("dead_stream", "unstale:events"),
        ("dead_deliveries", "2"),
        ("dead_by", "api-1-x7f2"),
    ];
    assert_eq!(seen, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn of_an_entry_that_is_too_large_the_beginning_of_each_field_is_kept() {
    let world = World::start().await;
    let letters = Letters::new(world.client.clone(), LettersConfig { entry: EntryLimit::new(10_000), ..config() });
    let (small, large) = ("s".repeat(4000), "l".repeat(4097));
    letters.bury(&letter(fields(&[("a", &small), ("b", &large)]))).await.unwrap();
    assert!(newest(&world).iter().all(|(name, _)| name != "dead_truncated"), "8 kB are not over 10,000 bytes");
    letters.bury(&letter(fields(&[("a", &small), ("b", &large), ("c", &large)]))).await.unwrap();
    let seen = newest(&world);
    let value = |name: &str| &seen.iter().find(|(known, _)| known == name).unwrap().1;
    assert_eq!((value("a"), value("b").len(), value("c").len()), (&small, 4096, 4096));
    assert_eq!(value("dead_truncated"), "1");
}

#[tokio::test]
async fn of_an_entry_of_too_many_fields_the_first_are_kept() {
    let world = World::start().await;
    let letters = Letters::new(world.client.clone(), config());
    let many: Vec<(String, &str)> = (0..20_000).map(|number| (number.to_string(), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    letters.bury(&letter(fields(&many))).await.unwrap();
    let seen = newest(&world);
    assert_eq!((seen[0].0.as_str(), seen[999].0.as_str(), seen[1000].0.as_str()), ("0", "999", "dead_reason"));
    assert_eq!(seen.last().unwrap(), &("dead_truncated".to_owned(), "1".to_owned()));
}

#[tokio::test]
async fn letters_are_kept_to_their_number() {
    let world = World::start().await;
    let letters = Letters::new(world.client.clone(), LettersConfig { retain: 100, ..config() });
    for number in 0..350 {
        letters.bury(&letter(fields(&[("number", &number.to_string())]))).await.unwrap();
    }
    // Redis trims whole nodes of a hundred entries.
    assert!((100..=200).contains(&length(&world)), "{}", length(&world));
    assert_eq!(newest(&world)[0].1, "349");
}

#[tokio::test]
async fn letters_are_kept_to_their_bytes_and_the_newest_always() {
    let world = World::start().await;
    let letters = Letters::new(world.client.clone(), LettersConfig { retain_bytes: 100_000, ..config() });
    let large = "x".repeat(10_000);
    for number in 0..30 {
        letters.bury(&letter(fields(&[("number", &number.to_string()), ("large", &large)]))).await.unwrap();
        let bytes = world.redis.cmd(&["MEMORY", "USAGE", DEAD, "SAMPLES", "0"]).int();
        assert!(bytes <= 120_000, "{bytes} bytes in {} letters", length(&world));
    }
    assert!(length(&world) >= 3, "{}", length(&world));
    assert_eq!(newest(&world)[0].1, "29");
}
