//! `storage sessions`, `storage history` and `storage threads`.

use serde_json::{Value, json};
use storage_agent::{
    AgentStorage, MessageEdit, Metadata, NewMessage, NewSession, Redaction,
    checkpoints::{CheckpointKey, NewCheckpoint, Payload, TaskWrites},
};
use storage_core::Json;
use storage_factory::{Settings, get_storage_backend};

use crate::program::Place;

/// Writes into the file that the program finds without settings.
pub(crate) fn seed(place: &Place, work: impl AsyncFnOnce(&AgentStorage)) {
    let url = format!("sqlite:///{}", place.path().join("ad_buyer.db").display());
    let storage = get_storage_backend(&Settings::new().with("DATABASE_URL", url).unwrap()).unwrap();
    let agent = AgentStorage::new(storage).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        agent.initialize().await.unwrap();
        work(&agent).await;
        agent.close().await.unwrap();
    });
}

fn seed_sessions(place: &Place, count: usize) {
    seed(place, async |agent| {
        let sessions =
            (0..count).map(|n| NewSession::new(format!("s-{n}"), if n % 2 == 0 { "ada" } else { "bob" }));
        agent.sessions().batch_create_sessions(sessions.collect()).await;
    });
}

#[test]
fn sessions_are_listed_as_a_table_and_as_json() {
    let place = Place::new();
    seed_sessions(&place, 4);
    let table = place.done(&["sessions", "list"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("SESSION  USER  STATUS  REQUESTS  ERRORS  USED"), "{table}");
    assert!(lines[1].starts_with("s-0      ada   active  0         0       20"), "{table}");
    assert_eq!(lines.len(), 5);
    let bobs = place.run(&["sessions", "list", "--user", "bob", "--status", "active", "--json"]).json();
    let ids: Vec<_> =
        bobs["sessions"].as_array().unwrap().iter().map(|session| &session["session_id"]).collect();
    assert_eq!((ids, &bobs["next"]), (vec![&json!("s-1"), &json!("s-3")], &Value::Null));
    assert_eq!(place.done(&["sessions", "list", "--idle", "1h"]).lines().count(), 1);
    let first = place.done(&["sessions", "list", "--limit", "3"]);
    assert!(first.ends_with("\nmore: --after s-2\n"), "{first}");
    assert!(place.done(&["sessions", "list", "--limit", "3", "--after", "s-2"]).contains("s-3"));
    assert_eq!(place.run(&["sessions", "list", "--limit", "0"]).code, 2);
}

#[test]
fn a_document_that_is_no_session_is_a_warning() {
    let place = Place::new();
    seed_sessions(&place, 1);
    place.done(&["set", "session:odd", "{\"of\": \"another program\"}"]);
    let done = place.run(&["sessions", "list"]);
    assert_eq!((done.code, done.out.lines().count()), (0, 2));
    assert!(done.err.starts_with("warning: ") && done.err.contains("session:odd"), "{}", done.err);
}

#[test]
fn a_session_is_shown_and_ended() {
    let place = Place::new();
    seed_sessions(&place, 1);
    let shown = place.done(&["sessions", "show", "s-0"]);
    assert!(shown.contains("user        ada\nstatus      active\n"), "{shown}");
    let ended = place.run(&["sessions", "end", "s-0", "--status", "failed", "--json"]).json();
    assert_eq!((&ended["session_id"], &ended["status"]), (&json!("s-0"), &json!("failed")));
    assert!(place.done(&["get", "session:s-0"]).contains("\"status\":\"failed\""));
    for command in ["show", "end"] {
        let done = place.run(&["sessions", command, "nobody"]);
        let told = "error: not found: `session:nobody`\nhint: `storage sessions list` shows ";
        assert!(done.code == 1 && done.err.starts_with(told), "{}", done.err);
        let error = place.run(&["sessions", command, "nobody", "--json"]).error();
        assert_eq!(error["kind"], json!("not_found"));
    }
}

#[test]
fn ending_a_session_does_not_change_when_it_expires() {
    let place = Place::new();
    seed_sessions(&place, 2);
    let document = place.done(&["get", "session:s-0"]);
    place.done(&["set", "session:s-0", &document]);
    place.done(&["set", "session:s-1", &document.replace("s-0", "s-1"), "--ttl", "90m"]);
    for id in ["s-0", "s-1"] {
        place.done(&["sessions", "end", id]);
    }
    assert_eq!(place.run(&["ttl", "session:s-0", "--json"]).json()["expires_in"], Value::Null);
    let left = place.run(&["ttl", "session:s-1", "--json"]).json()["expires_in"].as_f64().unwrap();
    assert!((5_000.0..=5_400.0).contains(&left), "{left}");
}

#[test]
fn the_history_is_the_latest_messages_in_their_order() {
    let place = Place::new();
    seed(&place, async |agent| {
        let text = |n: usize| NewMessage::new("user", format!("message {n}\nwith a second line"));
        agent.conversations().add_conversation_messages("s", (1..=60).map(text).collect()).await.unwrap();
        let blocks = Json::parse(r#"[{"type": "text"}]"#).unwrap();
        agent.conversations().add_conversation_message("s", "tool", blocks, Metadata::new()).await.unwrap();
    });
    let table = place.done(&["history", "s"]);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!((lines.len(), lines[51]), (52, "more: --before 12"));
    assert!(lines[0].starts_with("SEQ  TIME "), "{table}");
    assert!(
        lines[1].starts_with("12   20") && lines[1].ends_with(r"user  message 12\nwith a second line"),
        "{table}"
    );
    assert!(
        lines[50].starts_with("61   20") && lines[50].ends_with(r#"tool  [{"type": "text"}]"#),
        "{table}"
    );
    let page = place.run(&["history", "s", "--before", "12", "--limit", "20", "--json"]).json();
    let messages = page["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &page["more"]), (11, &json!(false)));
    assert_eq!(messages[0]["content"], json!("message 1\nwith a second line"));
    let done = place.run(&["history", "nobody"]);
    assert!(done.code == 1 && done.err.starts_with("error: not found: `conversation:nobody`\nhint: "));
    assert_eq!(place.run(&["history", "s", "--limit", "0"]).code, 2);
}

async fn steps(agent: &AgentStorage, thread: &str, count: usize) {
    for n in 1..=count {
        let step = NewCheckpoint {
            key: CheckpointKey::new(thread, "", format!("{n:04}")),
            parent_id: (n > 1).then(|| format!("{:04}", n - 1)),
            checkpoint: Payload::new("json", vec![b'x'; 100]),
            metadata: Json::parse(format!(r#"{{"step": {n}}}"#)).unwrap(),
            channel_versions: [].into(),
            new_values: vec![],
        };
        agent.checkpointer().put(&step).await.unwrap();
    }
}

#[test]
fn threads_are_listed_shown_and_pruned() {
    let place = Place::new();
    seed(&place, async |agent| {
        steps(agent, "t:1", 20).await;
        // The list is ordered by the millisecond.
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        steps(agent, "t", 2).await;
    });
    let list = place.run(&["threads", "list", "--json"]).json();
    let threads: Vec<_> =
        list["threads"].as_array().unwrap().iter().map(|thread| &thread["thread"]).collect();
    assert_eq!((threads, &list["threads"][1]["checkpoints"]), (vec![&json!("t"), &json!("t:1")], &json!(20)));
    assert!(place.done(&["threads", "list"]).starts_with("THREAD  CHECKPOINTS  SIZE"));
    let shown = place.done(&["threads", "show", "t:1", "--limit", "3"]);
    assert!(shown.contains("checkpoints  20\n"), "{shown}");
    let latest: Vec<_> = shown.lines().skip(8).collect();
    assert!(latest.len() == 5 && latest[2].starts_with("* 0020"), "{shown}");
    assert!(latest[2].ends_with(r#"{"step": 20}"#) && latest[4] == "more: --limit 20", "{shown}");

    let dry = place.run(&["threads", "prune", "t:1", "t", "--keep", "5", "--dry-run", "--json"]).json();
    assert_eq!(
        (&dry["dry_run"], dry["threads"][0]["checkpoints"].as_array().unwrap().len()),
        (&json!(true), 15)
    );
    assert_eq!(dry["threads"][1]["checkpoints"], json!([]));
    assert!(dry["threads"][0]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(place.run(&["threads", "show", "t:1", "--json"]).json()["checkpoints"], json!(20));
    let kept =
        place.run(&["threads", "prune", "t:1", "--keep", "5", "--keep-tagged", "step", "--json"]).json();
    let kept = &kept["threads"][0];
    assert_eq!((&kept["checkpoints"], &kept["tagged"]), (&json!([]), &json!(15)));
    let kept = place.done(&["retention", "threads: keep 5, keep tagged step"]);
    assert!(kept.contains("tagged checkpoints that stay  ") && kept.ends_with("  15\n"), "{kept}");
    let pruned = place.done(&["threads", "prune", "t:1", "--keep", "5"]);
    assert!(pruned.starts_with("t:1: removed 15 checkpoints, "), "{pruned}");
    assert_eq!(place.run(&["threads", "show", "t:1", "--json"]).json()["checkpoints"], json!(5));

    for wrong in [&["threads", "show", "nothing"][..], &["threads", "prune", "t:1", "nothing", "--keep", "1"]]
    {
        let done = place.run(wrong);
        let told = "error: not found: `thread:nothing`\nhint: `storage threads list` ";
        assert!(done.code == 1 && done.err.starts_with(told), "{}", done.err);
    }
    assert_eq!(place.run(&["threads", "show", "t:1", "--json"]).json()["checkpoints"], json!(5));
    for wrong in [&["threads", "prune", "t"][..], &["threads", "prune", "--keep", "1"], &["threads"]] {
        assert_eq!(place.run(wrong).code, 2, "{wrong:?}");
    }
}

/// A thread with a fork, a subgraph, and two writes at one checkpoint.
async fn fork(agent: &AgentStorage) {
    let put = async |ns: &str, id: &str, parent: Option<&str>, metadata: &str| {
        let new = NewCheckpoint {
            key: CheckpointKey::new("t", ns, id),
            parent_id: parent.map(str::to_owned),
            checkpoint: Payload::new("json", "{}"),
            metadata: Json::parse(metadata.to_owned()).unwrap(),
            channel_versions: [].into(),
            new_values: vec![],
        };
        agent.checkpointer().put(&new).await.unwrap();
    };
    put("", "01", None, r#"{"source":"input","step":-1}"#).await;
    put("", "02", Some("01"), r#"{"source":"loop","step":0}"#).await;
    put("", "03", Some("02"), r#"{"source":"loop","step":1}"#).await;
    put("", "04", Some("02"), r#"{"source":"fork","step":1}"#).await;
    put("sub:1", "05", None, "{}").await;
    let writes = TaskWrites {
        checkpoint_id: "03".to_owned(),
        task_id: "task".to_owned(),
        task_path: String::new(),
        writes: vec![
            ("a".to_owned(), Payload::new("json", "1")),
            ("b".to_owned(), Payload::new("json", "2")),
        ],
    };
    agent.checkpointer().put_writes("t", "", &writes).await.unwrap();
}

#[test]
fn a_thread_is_shown_as_a_tree_with_its_forks_namespaces_and_pending_writes() {
    let place = Place::new();
    seed(&place, fork);
    let shown = place.done(&["threads", "show", "t"]);
    let trees = shown.split_once("\n\n").unwrap().1;
    let cells: Vec<String> = trees
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .take(4)
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect();
    assert_eq!(
        cells,
        [
            "namespace: the root",
            "CHECKPOINT|SOURCE|STEP|PENDING",
            "* 01|input|-1|0",
            "* 02|loop|0|0",
            "|-* 03|loop|1|2",
            "`-* 04|fork|1|0",
            "",
            "namespace: sub:1",
            "CHECKPOINT|SOURCE|STEP|PENDING",
            "* 05|-|-|0",
        ],
        "{shown}"
    );
    let document = place.run(&["threads", "show", "t", "--json"]).json();
    let latest = document["latest"].as_array().unwrap();
    assert_eq!((&latest[0]["namespace"], &latest[2]["parent"]), (&json!("sub:1"), &json!("02")));
    assert_eq!((&latest[2]["pending_writes"], &latest[1]["pending_writes"]), (&json!(2), &json!(0)));
    assert!(latest[2]["bytes"].as_u64().unwrap() > latest[1]["bytes"].as_u64().unwrap());
}

#[test]
fn the_history_is_of_a_time_of_roles_and_of_metadata() {
    let place = Place::new();
    seed(&place, async |agent| {
        let conversations = agent.conversations();
        let message = |n: usize| {
            let note = json!({"score": n}).as_object().unwrap().clone();
            NewMessage::new(if n % 1_000 == 1 { "user" } else { "tool" }, n.to_string()).with_metadata(note)
        };
        for from in [1, 8_001] {
            let batch = (from..from + 8_000).map(message).collect();
            conversations.add_conversation_messages("s", batch).await.unwrap();
        }
        let last = conversations.get_conversation_history("s", 2).await.unwrap();
        conversations.redact_message("s", &last[0], Redaction::default()).await.unwrap();
        let edit = MessageEdit { content: Some("new".into()), ..MessageEdit::default() };
        conversations.edit_message("s", &last[1], edit).await.unwrap();
    });
    let numbers = |arguments: &[&str]| {
        let done = place.run(&[&["history", "s", "--json"], arguments].concat()).json();
        let messages = done["messages"].as_array().unwrap().iter();
        (
            messages.map(|message| message["sequence"].as_u64().unwrap()).collect::<Vec<_>>(),
            done["more"].clone(),
        )
    };
    // More than one call looks at.
    let all: Vec<u64> = (0..16).map(|n| n * 1_000 + 1).collect();
    assert_eq!(numbers(&["--role", "user"]), (all.clone(), json!(false)));
    assert_eq!(numbers(&["--role", "user", "--limit", "2"]), (all[14..].to_vec(), json!(true)));
    assert_eq!(numbers(&["--role", "user", "--role", "nobody", "--before", "2001"]).0, [1, 1_001]);
    assert_eq!(numbers(&["--filter", r#"{"score": {"$lte": 3}}"#]).0, [1, 2, 3]);
    assert_eq!(numbers(&["--since", "1h", "--limit", "1"]).0, [16_000]);
    assert_eq!(numbers(&["--until", "1h"]), (vec![], json!(false)));
    let shown = place.done(&["history", "s", "--limit", "2"]);
    assert!(shown.contains("tool  (redacted)\n") && shown.contains("tool  (edited) new\n"), "{shown}");
    for wrong in [["--since", "yesterday"], ["--filter", "1"], ["--limit", "20000"]] {
        assert_eq!(place.run(&[&["history", "s"], &wrong[..]].concat()).code, 2, "{wrong:?}");
    }
}

#[test]
fn sessions_and_users_are_deleted_where_it_was_agreed_to() {
    let place = Place::new();
    seed_sessions(&place, 4);
    let refused = place.run(&["users", "delete", "ada"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("nothing was deleted") && refused.err.contains("--yes"), "{}", refused.err);
    let deleted = place.run(&["sessions", "delete", "s-1", "--yes", "--json"]).json();
    assert_eq!((&deleted["sessions"], &deleted["conversations"]), (&json!(1), &json!(0)));
    let table = place.done(&["users", "delete", "ada", "--yes"]);
    assert!(table.starts_with("sessions       2\n"), "{table}");
    assert_eq!(place.run(&["users", "delete", "ada", "--yes"]).code, 1, "there was nothing");
    let left = place.run(&["sessions", "list", "--json"]).json();
    assert_eq!(left["sessions"].as_array().unwrap().len(), 1);
}

#[test]
fn retention_needs_a_policy_and_says_what_it_removes() {
    let place = Place::new();
    seed(&place, async |agent| {
        let messages = (0..8).map(|number| NewMessage::new("user", number.to_string())).collect();
        agent.conversations().add_conversation_messages("s", messages).await.unwrap();
    });
    let none = place.run(&["retention"]);
    assert!(none.code == 2 && none.err.contains("STORAGE_RETENTION"), "{}", none.err);
    let wrong = place.run(&["retention", "threads: few"]);
    assert!(wrong.code == 2 && wrong.err.contains("`few`"), "{}", wrong.err);
    let dry = place.done(&["retention", "conversations: 3 messages", "--dry-run"]);
    assert!(
        dry.starts_with("would remove\n") && dry.contains("messages of other conversations  5\n"),
        "{dry}"
    );
    let done = place.run(&["retention", "conversations: 3 messages", "--json"]).json();
    assert_eq!((&done["messages"], &done["dry_run"]), (&json!(5), &json!(false)));
    assert_eq!(place.run(&["retention", "conversations: 3 messages", "--json"]).json()["messages"], json!(0));
}
