//! The demo.

use crate::program::Place;

#[test]
fn the_demo_keeps_its_promises_and_leaves_nothing_behind() {
    let (place, temporary) = (Place::new(), Place::new());
    let done = place.run_in(&[("TMPDIR", temporary.path().to_str().unwrap())], &["demo"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{}", done.out);
    for told in [
        "demo-q-flash is gone; open: 1 quote",
        "deal:demo-trail-audio\n        deal:demo-trail-ctv\n",
        "64 tried, 1 won",
        "64 added, 64 in the index",
        "64,000 impressions",
        "{\"key\":\"quote:demo-q-day\",",
        "storage demo --redis-url",
    ] {
        assert!(done.out.contains(told), "{told}: {}", done.out);
    }
    for folder in [&place, &temporary] {
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn on_a_store_that_is_set_the_demo_leaves_what_was_there() {
    let place = Place::new();
    let store = ["--database-url", "own.db"];
    let run = |args: &[&str]| place.done(&[&store[..], args].concat());
    run(&["set", "deal:demo-trail-ctv", "\"mine\""]);
    run(&["set", "session_index:buyer:demo-northtrail", "[]"]);
    let before = run(&["export"]);
    let document = place.run(&[&store[..], &["demo", "--json"]].concat());
    assert_eq!((document.code, document.err.as_str()), (0, ""));
    assert_eq!(document.json()["backend"], "sqlite");
    assert!(document.json()["steps"].as_array().unwrap().len() > 5);
    assert_eq!(run(&["export"]), before);
}

#[test]
fn the_demo_plays_in_memory_too() {
    assert!(Place::new().done(&["demo", "--type", "memory"]).contains("Done."));
}
