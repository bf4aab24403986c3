//! The line from XADD to script, notice and XACK, and the end of a process.

use unstale_tests::World;

#[test]
fn an_event_deletes_its_key_announces_it_and_is_acknowledged() {
    let mut world = World::preset("llm-gateway");
    world.seed(["vkey:abc", "vkey:other"]);
    world.publish("SpendUpdated", &[("key_hash", "abc")]);
    world.wait_settled();
    assert_eq!(world.keys(), ["vkey:other".to_owned()].into());
    assert_eq!(world.notices()[0].keys(), ["vkey:abc"]);
}

#[test]
fn told_to_end_it_ends_with_0_and_says_goodbye() {
    let mut world = World::preset("llm-gateway");
    world.publish("SpendUpdated", &[("key_hash", "abc")]);
    world.sidecar.terminate();
    assert_eq!(world.sidecar.wait(), Some(0), "{}", world.sidecar.log());
    assert_eq!(world.instances(), [""; 0]);
}
