//! `storage search`, and what other commands find by words.

use serde_json::{Value, json};
use storage_agent::{NewMessage, NewSession};

use crate::{agent::seed, program::Place};

/// Two users' conversations, and memories of one of them.
fn filled() -> Place {
    let place = Place::new();
    seed(&place, async |agent| {
        for (session, user, text) in [
            ("s-1", "ada", "Is the green tea campaign on budget?"),
            ("s-2", "bob", "The GREEN coffee campaign"),
        ] {
            agent.sessions().batch_create_sessions(vec![NewSession::new(session, user)]).await;
            let answer = NewMessage::new("assistant", format!("You asked: {text}"));
            let said = vec![NewMessage::new("user", text), answer];
            agent.conversations().add_conversation_messages(session, said).await.unwrap();
        }
    });
    place.done(&["memory", "put", "users/ada", "tea", r#"{"fact": "likes green tea"}"#]);
    place.done(&["memory", "put", "users/bob", "tea", r#"{"fact": "hates tea"}"#]);
    place
}

fn places(found: &Value) -> Vec<String> {
    let messages = found["messages"].as_array().unwrap().iter();
    let mut messages: Vec<String> = messages
        .map(|hit| format!("{} {}", hit["session_id"].as_str().unwrap(), hit["message"]["sequence"]))
        .collect();
    messages.sort();
    let memories = found["memories"].as_array().unwrap().iter();
    messages.extend(memories.map(|hit| format!("{} {}", hit["namespace"][1].as_str().unwrap(), hit["key"])));
    messages
}

#[test]
fn messages_and_memories_are_found_as_tables_and_as_json() {
    let place = filled();
    let found = place.done(&["search", "green tea"]);
    let lines: Vec<&str> = found.lines().collect();
    assert!(
        lines[0].starts_with("SESSION  SEQ  TIME ") && lines[0].ends_with("ROLE       MESSAGE"),
        "{found}"
    );
    assert!(
        lines[1].starts_with("s-1      1    20") && lines[1].contains("user       Is the green tea"),
        "{found}"
    );
    assert!(lines[4].starts_with("NAMESPACE  KEY  UPDATED ") && lines[4].ends_with("MEMORY"), "{found}");
    assert!(lines[5].starts_with("users/ada  tea  20") && lines[5].ends_with("likes green tea"), "{found}");
    let json = place.run(&["search", "green tea", "--json"]).json();
    assert_eq!(places(&json), ["s-1 1", "s-1 2", "ada \"tea\""]);
    let hit = &json["messages"][0];
    let (text, place_of) = (hit["snippet"]["text"].as_str().unwrap(), &hit["snippet"]["matches"][0]);
    let range = place_of["start"].as_u64().unwrap() as usize..place_of["end"].as_u64().unwrap() as usize;
    assert_eq!(&text[range], "green");
}

#[test]
fn a_search_is_narrowed_by_what_it_names() {
    let place = filled();
    let found =
        |arguments: &[&str]| places(&place.run(&[&["search"], arguments, &["--json"]].concat()).json());
    assert_eq!(found(&["green"]), ["s-1 1", "s-1 2", "s-2 1", "s-2 2", "ada \"tea\""]);
    assert_eq!(found(&["green", "--user", "bob"]), ["s-2 1", "s-2 2"]);
    assert_eq!(found(&["green", "--session", "s-1", "--role", "user"]), ["s-1 1"]);
    assert_eq!(found(&["green -coffee", "--role", "assistant"]), ["s-1 2"]);
    assert_eq!(found(&["tea", "--namespace", "users/bob"]), ["bob \"tea\""]);
    assert_eq!(found(&["\"green tea\"", "--since", "1h", "--role", "user"]), ["s-1 1"]);
    assert_eq!(found(&["green", "--until", "1h"]), [""; 0]);
    let none = place.run(&["search", "absent"]);
    assert_eq!((none.code, none.out.as_str()), (1, "nothing was found\n"));
    let history = place.run(&["history", "s-1", "--search", "asked", "--json"]).json();
    assert_eq!((&history["messages"][0]["sequence"], &history["more"]), (&json!(2), &json!(false)));
    let memories = place.run(&["memory", "search", "users", "--query", "likes", "--json"]).json();
    assert_eq!(memories["memories"][0]["namespace"], json!(["users", "ada"]));
}

#[test]
fn what_is_no_query_is_refused_with_a_hint() {
    let place = filled();
    for wrong in [&["search", "?"][..], &["search", "x", "--limit", "0"], &["history", "s-1", "--search", ""]]
    {
        let done = place.run(wrong);
        assert!(done.code == 2 && done.err.starts_with("error: "), "{wrong:?}: {} {}", done.code, done.err);
    }
    assert!(place.run(&["search", "-tea"]).err.contains("hint: "));
}
