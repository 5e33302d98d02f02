//! Files of exports: what was changed, cut or is of a later version is refused before anything is written.

use std::io::Cursor;

use sha2::{Digest, Sha256};
use storage_agent::{AgentStorage, Existing, MemoryTtl, Metadata};
use storage_core::{Error, ErrorKind};

use super::carry::{EVERYTHING, agent, exported, import, memory, same};
use crate::stores::{Backend, connected, json};

/// A small file with a line of each kind.
async fn small() -> Vec<u8> {
    let storage = memory().await;
    let agent = agent(&storage);
    storage.set("a", json(r#"{"n":1}"#), None).await.unwrap();
    agent.conversations().add_conversation_message("s", "user", "hi", Metadata::new()).await.unwrap();
    agent.tasks().store_task_context(None, "t", json("[0]")).await.unwrap();
    agent.memories().put(&["m"], "k", json(r#"{"x":2}"#), MemoryTtl::Never).await.unwrap();
    exported(&agent, &EVERYTHING).await
}

async fn refused(agent: &AgentStorage, lines: &[u8]) -> Error {
    let error = agent.import(Cursor::new(lines), Existing::Replace).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    error
}

async fn is_empty(storage: &Backend) -> bool {
    exported(&agent(storage), &EVERYTHING).await.iter().filter(|byte| **byte == b'\n').count() == 2
}

#[tokio::test]
async fn a_file_of_which_any_byte_was_changed_is_refused() {
    let (lines, storage) = (small().await, memory().await);
    let agent = agent(&storage);
    for position in 0..lines.len() {
        for change in [1, 0x10, 0x80] {
            let mut changed = lines.clone();
            changed[position] ^= change;
            refused(&agent, &changed).await;
        }
    }
    assert!(is_empty(&storage).await);
    import(&agent, &lines, Existing::Refuse).await;
    same(&lines, &exported(&agent, &EVERYTHING).await);
}

#[tokio::test]
async fn a_file_that_was_cut_anywhere_or_goes_on_is_refused() {
    let (lines, storage) = (small().await, memory().await);
    let agent = agent(&storage);
    for length in 0..lines.len() {
        refused(&agent, &lines[..length]).await;
    }
    let begins: Vec<usize> = (1..lines.len()).filter(|n| lines[n - 1] == b'\n').collect();
    for (n, from) in begins.iter().enumerate() {
        let to = begins.get(n + 1).copied().unwrap_or(lines.len());
        refused(&agent, &[&lines[..*from], &lines[to..]].concat()).await;
        refused(&agent, &[&lines[..to], &lines[*from..]].concat()).await;
    }
    refused(&agent, &[&lines[..], b"\n"].concat()).await;
    let cut = refused(&agent, &lines[..begins[2]]).await;
    assert!(cut.to_string().contains("it was cut"), "{cut}");
    assert!(is_empty(&storage).await);
}

/// The lines with a checksum and counts that fit.
fn sealed(lines: &[&str], footer: &str) -> Vec<u8> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let hash: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{text}{{\"end\":{{{footer},\"sha256\":\"{hash}\"}}}}\n").into_bytes()
}

const HEADER: &str = r#"{"export":{"format":"agent-storage","version":1,"scope":"everything"}}"#;

#[tokio::test]
async fn what_is_wrong_is_said_with_its_line_and_no_value() {
    let agent = agent(&memory().await);
    let footer = r#""entries":0,"partitions":1,"items":1,"memories":0"#;
    let partition = r#"{"partition":{"name":"task:s:t"}}"#;
    let item = r#"{"item":{"sort":"1","text":"secret"}}"#;
    import(&agent, &sealed(&[HEADER, partition, item], footer), Existing::Refuse).await;
    let later = HEADER.replace("\"version\":1", "\"version\":2,\"new\":{}");
    for (lines, said) in [
        (vec![later.as_str()], "the export has version 2 of its format; this program reads up to version 1"),
        (vec![r#"{"key":"a","value":1}"#], "line 1 of the export: it is no header"),
        (vec![HEADER, item], "line 2 of the export: it is an item of no partition"),
        (vec![HEADER, HEADER], "line 2 of the export: it is a second header"),
        (vec![HEADER, "{\"secret\":1}"], "line 2 of the export: it is no line of an export"),
        (vec![HEADER, "secret"], "line 2 of the export: it is not JSON"),
        (
            vec![HEADER, r#"{"partition":{"name":"secret"}}"#],
            "line 2 of the export: the text names no partition",
        ),
        (
            vec![HEADER, r#"{"partition":{"name":"memory:m"}}"#],
            "line 2 of the export: partitions of the kind `memory`",
        ),
        (
            vec![HEADER, r#"{"partition":{"name":"a:b","sequence":100000001}}"#],
            "line 2 of the export: `sequence` is more",
        ),
        (vec![HEADER, r#"{"entry":{"key":"","value":1}}"#], "line 2 of the export: a key may not be empty"),
        (
            vec![HEADER, r#"{"entry":{"key":"a","value":1,"expires_at":99999999999}}"#],
            "line 2 of the export: ",
        ),
        (
            vec![HEADER, partition, r#"{"item":{"sort":"","text":"secret"}}"#],
            "line 3 of the export: a key may not",
        ),
        (
            vec![HEADER, partition, r#"{"item":{"sort":"1","base64":"secret!"}}"#],
            "line 3 of the export: `base64` is no base64",
        ),
        (
            vec![HEADER, partition, r#"{"item":{"sort":"1","base64":"AAAA","text":"secret"}}"#],
            "line 3 of the export: it has `text` and",
        ),
    ] {
        let error = refused(&agent, &sealed(&lines, footer)).await;
        assert!(error.to_string().contains(said), "{lines:?}: {error}");
        assert!(!format!("{error:?}").contains("secret!"), "{error:?}");
    }
    let counts =
        refused(&agent, &sealed(&[HEADER, partition, item], &footer.replace("\"items\":1", "\"items\":2")))
            .await;
    assert!(counts.to_string().contains("the end of the export was changed"), "{counts}");
}

#[tokio::test]
async fn a_line_without_end_is_refused_in_bounded_memory() {
    let agent = agent(&memory().await);
    let long = [HEADER.as_bytes(), b"\n", &vec![b'x'; 80 * 1024 * 1024]].concat();
    let error = refused(&agent, &long).await;
    assert!(error.to_string().contains("line 2 of the export: it has more than"), "{error}");
}

/// As an export has it where a partition was written to meanwhile: only what stands behind its last line counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_comes_again_begins_anew() {
    let partition =
        |sequence: u64| format!(r#"{{"partition":{{"name":"conversation:s","sequence":{sequence}}}}}"#);
    let item = |number: u64| {
        format!(
            r#"{{"item":{{"sort":"{number:020}","time":"2026-01-02T03:04:05.678Z","attributes":{{"role":"user"}},"text":"{number}"}}}}"#
        )
    };
    // More than a step, more than that with other numbers, fewer numbers than were given out.
    for (first, then) in [(1..=3, 2..=4), (1..=5_000, 2..=5_001), (1..=5_000, 3..=9)] {
        let lines = |numbers: std::ops::RangeInclusive<u64>| {
            [partition(*numbers.end())].into_iter().chain(numbers.map(item)).collect::<Vec<_>>()
        };
        let items = then.clone().count();
        let footer = format!(r#""entries":0,"partitions":1,"items":{items},"memories":0"#);
        let all: Vec<String> =
            [HEADER.to_owned()].into_iter().chain(lines(first)).chain(lines(then.clone())).collect();
        let once: Vec<String> = [HEADER.to_owned()].into_iter().chain(lines(then)).collect();
        let sealed_of =
            |lines: &[String]| sealed(&lines.iter().map(String::as_str).collect::<Vec<_>>(), &footer);
        let agent = agent(&memory().await);
        let imported = import(&agent, &sealed_of(&all), Existing::Refuse).await;
        assert_eq!((imported.partitions, imported.items), (1, items as u64));
        same(&sealed_of(&once), &exported(&agent, &EVERYTHING).await);
        assert_eq!(import(&agent, &sealed_of(&all), Existing::Refuse).await.unchanged, 1);
    }
}

/// A partition whose numbers have a gap of a million, which no item has.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_behind_a_long_gap() {
    let footer = r#""entries":0,"partitions":1,"items":2,"memories":0"#;
    let lines = sealed(
        &[
            HEADER,
            r#"{"partition":{"name":"conversation:s","sequence":1000010}}"#,
            r#"{"item":{"sort":"00000000000000000005","time":"2026-01-02T03:04:05.678Z","attributes":{"role":"user"},"text":"a"}}"#,
            r#"{"item":{"sort":"00000000000001000007","time":"2026-01-02T03:04:05.678Z","attributes":{"role":"user"},"text":"b"}}"#,
        ],
        footer,
    );
    let agent = agent(&memory().await);
    import(&agent, &lines, Existing::Refuse).await;
    same(&lines, &exported(&agent, &EVERYTHING).await);
    let next =
        agent.conversations().add_conversation_message("s", "user", "c", Metadata::new()).await.unwrap();
    assert_eq!(next, 1_000_011);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_database_takes_and_gives_exports() {
    let folder = tempfile::tempdir().unwrap();
    let (url, cache) =
        (format!("sqlite+file://{}/home", folder.path().display()), folder.path().join("cache"));
    let storage = connected(&[("DATABASE_URL", &url), ("STORAGE_CACHE_DIR", cache.to_str().unwrap())]).await;
    super::carry::everything_comes_back_equal(storage.clone()).await;
    storage.disconnect().await.unwrap();
}

#[tokio::test]
async fn what_stands_twice_or_out_of_order_is_refused_before_anything_is_written() {
    let storage = memory().await;
    let agent = agent(&storage);
    let entry = |key: &str| format!(r#"{{"entry":{{"key":"{key}","value":1}}}}"#);
    let partition = |name: &str| format!(r#"{{"partition":{{"name":"{name}"}}}}"#);
    let item = |sort: &str| format!(r#"{{"item":{{"sort":"{sort}","text":"x"}}}}"#);
    let memory = |namespace: &str, key: &str| {
        let time = "2026-01-02T03:04:05.000Z";
        format!(
            r#"{{"memory":{{"namespace":["{namespace}"],"key":"{key}","value":{{}},"version":"{key}","created_at":"{time}","updated_at":"{time}"}}}}"#
        )
    };
    let all = [
        entry("a"),
        entry("b"),
        partition("task:s:1"),
        item("1"),
        item("2"),
        partition("task:s:2"),
        item("1"),
        memory("m", "1"),
        memory("m", "2"),
        memory("n", "1"),
    ];
    let file = |order: &[usize]| {
        let lines: Vec<&str> = order.iter().map(|n| all[*n].as_str()).collect();
        let of = |kind: &str| lines.iter().filter(|line| line.starts_with(&format!("{{\"{kind}\""))).count();
        let [entries, partitions, items, memories] = ["entry", "partition", "item", "memory"].map(of);
        let footer =
            format!(r#""entries":{entries},"partitions":{partitions},"items":{items},"memories":{memories}"#);
        sealed(&[&[HEADER], &lines[..]].concat(), &footer)
    };
    for order in [
        &[0, 0][..],
        &[1, 0],
        &[2, 3, 0],
        &[2, 3, 3],
        &[2, 4, 3],
        &[5, 6, 2, 3],
        &[7, 0],
        &[7, 2],
        &[7, 7],
        &[8, 7],
        &[9, 7],
    ] {
        let error = refused(&agent, &file(order)).await;
        assert!(error.to_string().contains("comes twice, or out of the order"), "{order:?}: {error}");
    }
    assert!(is_empty(&storage).await);
    import(&agent, &file(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), Existing::Refuse).await;
}

#[tokio::test]
async fn what_others_spell_in_their_way_is_equal_to_itself() {
    let agent = agent(&memory().await);
    let entry = r#"{"entry":{"key":"a","value":{"b": 1, "a": 1e2}}}"#;
    let partition = r#"{"partition":{"name":"conversation:s","sequence":1}}"#;
    let item = r#"{"item":{"sort":"00000000000000000001","time":"2026-01-02T03:04:05.000Z","attributes":{"role":"user","metadata":{"b": 1,"a":2}},"text":""}}"#;
    let lines =
        sealed(&[HEADER, entry, partition, item], r#""entries":1,"partitions":1,"items":1,"memories":0"#);
    import(&agent, &lines, Existing::Refuse).await;
    let again = import(&agent, &lines, Existing::Refuse).await;
    assert_eq!((again.unchanged, again.entries, again.partitions), (2, 0, 0));
}
