//! Full-text search: what is committed is found, the same on every store.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use storage_core::{Expire, MAX_HIT_BODY_BYTES, MAX_HITS, Search, SearchQuery, SearchText};

use super::*;
use crate::Subject;

fn text(text: &str) -> Option<SearchText> {
    Some(SearchText::new(text))
}

/// An item whose body is a text that it is found by.
fn said(sort: &str, body: &str) -> Operation {
    upsert(sort, body).searched(text(body))
}

async fn commit(backend: &Backend, commit: Commit) {
    store(backend).commit(commit).await.unwrap();
}

async fn search(backend: &Backend, search: Search) -> Vec<String> {
    let hits = store(backend).search(search).await.unwrap();
    hits.into_iter().map(|hit| format!("{} {}", hit.partition.segments()[0], hit.item.sort)).collect()
}

/// The places of all items that a query finds, sorted.
async fn found(backend: &Backend, query: &str) -> Vec<String> {
    let asked = Search::new("conversation", query.parse().unwrap()).limit(MAX_HITS);
    let mut found = search(backend, asked).await;
    found.sort();
    found
}

/// What is asked of the texts of the case below.
const QUERIES: &[&str] = &[
    "green tea",
    "\"green tea\"",
    "\"tea green\"",
    "tea -please",
    "tea -\"green tea\"",
    "gre*",
    "\"green t\"*",
    "gree",
    "coffee OR tea",
    "tea that OR please",
    "cafe",
    "CAFÉ",
    "don't",
    "\"t order\"",
    "3.14",
    "eclair",
    "apfel",
    "東京",
    "京",
    "京東",
    "a_b",
    "NOT",
    "and -or",
    "\"and OR\"",
    "'quoted'",
    "(and)",
    "x*",
    "xx",
    "again",
    "\"the end\"",
    "\"again the\"",
    "beyond",
    "w",
    "fine",
    "ab12",
    "istanbul",
    "straße",
    "strasse",
    "привет",
    "हिन्दी",
    "ภาษา",
    "한*",
    "absent",
    "tea tea tea",
    "-tea coffees",
    "ok OR \"",
    "\u{e000} ok",
];

/// Words, phrases, beginnings of words, alternatives and exclusions mean on every store what `SearchQuery` says.
pub async fn queries_find_the_same_as_the_reference(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let repeated = format!("{}the end of it", "again and ".repeat(300));
    let long = format!("{}beyond", "w ".repeat(storage_core::MAX_TEXT_WORDS));
    let texts = [
        "Green tea, please.",
        "tea that is green",
        "Café: DON'T order 3.14 coffees",
        "e\u{301}clair and Äpfel",
        "住所は東京です",
        "京東",
        "it's 'quoted' (and) & | ! :* <-> \\ NOT AND OR",
        "a_b-c d%e \u{e000} ok",
        "",
        "🦀",
        &"x".repeat(500),
        &repeated,
        &long,
        "ﬁne ＡＢ½ İstanbul straße ПРИВЕТ हिन्दी ภาษาไทย 한국어",
    ];
    let mut all = Commit::new(of.clone());
    for (n, text) in texts.iter().enumerate() {
        all = all.with(said(&format!("m:{n:02}"), text));
    }
    commit(&backend, all).await;
    for query in QUERIES {
        let asked: SearchQuery = query.parse().unwrap();
        let expected: Vec<String> = texts
            .iter()
            .enumerate()
            .filter(|(_, text)| asked.matches(text))
            .map(|(n, _)| format!("s-1 m:{n:02}"))
            .collect();
        assert_eq!(found(&backend, query).await, expected, "{query}");
    }
}

/// An item is found from the commit on that wrote it, until it is written over, deleted, trimmed, expired.
pub async fn what_is_found_follows_its_item(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let mut first = Commit::new(of.clone());
    for n in 0..8 {
        first = first.with(said(&format!("k:{n}"), &format!("word w{n}")));
    }
    first = first.with(append("appended").searched(text("word appended")));
    commit(&backend, first).await;
    assert_eq!(found(&backend, "word").await.len(), 9);
    assert_eq!(found(&backend, "appended").await.len(), 1);
    let sort = |n: u8| format!("k:{n}");
    let change = Commit::new(of.clone())
        .with(said("k:0", "other words"))
        .with(upsert("k:1", "without words"))
        .with(put("k:2", "stays", PutMode::InsertIfAbsent).searched(text("never")))
        .with(Operation::Delete { sort: sort(3) })
        .with(Operation::DeleteRange { from: sort(4), to: Some(sort(6)) })
        .with(Operation::put(sort(9), value(&json!(1)), "", PutMode::Insert).searched(text("word counter")))
        .with(Operation::Increment { sort: sort(9), by: 1 });
    commit(&backend, change).await;
    assert_eq!(
        found(&backend, "word").await,
        ["s-1 k:2", "s-1 k:6", "s-1 k:7", "s-1 m:00000000000000000001"]
    );
    assert_eq!(found(&backend, "other").await, ["s-1 k:0"]);
    assert_eq!(found(&backend, "never OR w0 OR w1 OR counter").await, [""; 0]);
    commit(
        &backend,
        Commit::new(of.clone()).with(Operation::Trim { items: Some(3), bytes: None, max_age: None }),
    )
    .await;
    assert_eq!(found(&backend, "word OR other").await, ["s-1 k:7", "s-1 m:00000000000000000001"]);
    assert!(store(&backend).delete_partition(&of).await.unwrap());
    assert_eq!(found(&backend, "word OR other").await, [""; 0]);
    commit(&backend, Commit::new(of.clone()).with(said("k:0", "word anew"))).await;
    assert_eq!(found(&backend, "word").await, ["s-1 k:0"]);
    let short = Commit::new(partition("s-2")).expire(Expire::After(Duration::from_millis(400)));
    commit(&backend, short.with(said("k", "word of short life"))).await;
    tokio::time::sleep(Duration::from_millis(450)).await;
    assert_eq!(found(&backend, "word").await, ["s-1 k:0"]);
    backend.cleanup().await.unwrap();
    assert_eq!(found(&backend, "word OR life OR w0").await, ["s-1 k:0"]);
}

/// A commit that does not happen leaves nothing to be found.
pub async fn a_commit_that_fails_leaves_no_words(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    commit(&backend, Commit::new(of.clone()).with(said("a", "word one"))).await;
    let conflict = Commit::new(of.clone()).with(said("a", "changed")).with(said("b", "word two")).with(put(
        "a",
        "",
        PutMode::Insert,
    ));
    assert_eq!(kind(store(&backend).commit(conflict).await), ErrorKind::Conflict);
    assert_eq!(found(&backend, "word OR changed").await, ["s-1 a"]);
    assert_eq!(found(&backend, "changed OR two").await, [""; 0]);
}

/// Kind, partitions, labels and time narrow a search; each hit is the item as it is.
pub async fn a_search_is_narrowed_to_what_it_names(subject: Subject) {
    let backend = subject.connected().await;
    let other = Partition::new("memory", &["s-1"]).unwrap();
    for of in [partition("s-1"), partition("s-2"), partition("s-1:x"), other.clone()] {
        let by = |role: &str| text("the word").map(|text| text.with_label(format!("r{role}")).unwrap());
        let all = Commit::new(of)
            .with(upsert("a", "by the user").searched(by("user")))
            .with(upsert("b", &"x".repeat(MAX_HIT_BODY_BYTES + 1)).searched(by("tool")));
        commit(&backend, all).await;
    }
    let asked = |kind: &str| Search::new(kind, "word".parse().unwrap()).limit(MAX_HITS);
    let sorted = async |asked: Search| {
        let mut found = search(&backend, asked).await;
        found.sort();
        found
    };
    assert_eq!(
        sorted(asked("conversation")).await,
        ["s-1 a", "s-1 b", "s-1:x a", "s-1:x b", "s-2 a", "s-2 b"]
    );
    assert_eq!(sorted(asked("memory")).await, ["s-1 a", "s-1 b"]);
    assert_eq!(sorted(asked("absent")).await, [""; 0]);
    let two = vec![partition("s-2"), partition("absent"), partition("s-1")];
    assert_eq!(sorted(asked("conversation").within(two.clone())).await, ["s-1 a", "s-1 b", "s-2 a", "s-2 b"]);
    let one = asked("conversation").within(two).label("ruser");
    assert_eq!(sorted(one.clone()).await, ["s-1 a", "s-2 a"]);
    assert_eq!(sorted(one.label("rtool")).await, [""; 0]);
    assert_eq!(sorted(asked("conversation").label("word")).await, [""; 0], "a word is no label");
    let label_as_word = Search::new("conversation", "ruser".parse().unwrap());
    assert_eq!(sorted(label_as_word).await, [""; 0], "a label is no word");
    let since = |time| Search { written_since: Some(time), ..asked("memory") };
    let written = all(&backend, &other).await[0].written_at;
    assert_eq!(sorted(since(written)).await.len(), 2);
    assert_eq!(sorted(since(written + Duration::from_millis(1))).await, [""; 0]);
    assert_eq!(sorted(since(SystemTime::UNIX_EPOCH)).await.len(), 2);
    let hits = store(&backend).search(asked("memory")).await.unwrap();
    let items = store(&backend).items(&other, &["a", "b"]).await.unwrap();
    for hit in hits {
        let mut item = items.iter().flatten().find(|item| item.sort == hit.item.sort).unwrap().clone();
        if item.body.len() > MAX_HIT_BODY_BYTES {
            item.body = bytes::Bytes::new();
        }
        assert_eq!((hit.partition, hit.item), (other.clone(), item));
    }
}

/// A short text before a long one, one that says it more often before one that says it once; pages neither overlap nor miss.
pub async fn the_best_hits_come_first_and_pages_go_on(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let mut all = Commit::new(of.clone())
        .with(said("long", &format!("budget {}", "other words of no matter ".repeat(20))))
        .with(said("often", "budget, the budget and the budget again"))
        .with(said("short", "budget and the rest of what was said"));
    for n in 0..60 {
        all = all.with(said(&format!("n:{n:02}"), &format!("filler number {n} of many")));
    }
    commit(&backend, all).await;
    let asked = Search::new("conversation", "budget".parse().unwrap());
    assert_eq!(search(&backend, asked.clone()).await, ["s-1 often", "s-1 short", "s-1 long"]);
    let scores: Vec<f64> = store(&backend).search(asked).await.unwrap().iter().map(|hit| hit.score).collect();
    assert!(scores.is_sorted_by(|left, right| left >= right), "{scores:?}");
    let mut pages = Vec::new();
    for offset in (0..70).step_by(7) {
        let page =
            Search { offset, ..Search::new("conversation", "filler number".parse().unwrap()).limit(7) };
        pages.extend(search(&backend, page).await);
    }
    assert_eq!(pages.len(), 60);
    assert_eq!(pages.iter().collect::<BTreeSet<_>>().len(), 60);
}

/// What no search may ask is refused before anything is asked of the store, and a store that is not connected says so.
pub async fn what_no_search_may_ask_is_refused(subject: Subject) {
    let backend = subject.open();
    let asked = || Search::new("conversation", "word".parse().unwrap());
    assert_eq!(kind(store(&backend).search(asked()).await), ErrorKind::NotConnected);
    backend.connect().await.unwrap();
    let other = Partition::new("memory", &["s-1"]).unwrap();
    for wrong in [
        Search::new("No Kind", "word".parse().unwrap()),
        asked().limit(0),
        asked().limit(MAX_HITS + 1),
        asked().label("No Label"),
        asked().within(vec![other]),
        Search { offset: 100_001, ..asked() },
        asked().within(vec![partition("s-1"); 10_001]),
    ] {
        assert_eq!(kind(store(&backend).search(wrong).await), ErrorKind::InvalidInput);
    }
    assert_eq!(search(&backend, asked().within(vec![partition("absent"); 10_000])).await, [""; 0]);
}

/// After random commits the same is found as in memory.
pub async fn random_commits_are_found_as_in_memory(subject: Subject) {
    let backend = subject.connected().await;
    let reference: Backend = std::sync::Arc::new(storage_core::MemoryBackend::new());
    reference.connect().await.unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for step in 0..120 {
        let of = partition(&format!("s-{}", random.u8(..3)));
        let mut change = Commit::new(of.clone());
        for _ in 0..random.usize(1..4) {
            let sort = format!("k:{}", random.u8(..6));
            let words: Vec<&str> =
                (0..random.usize(..5)).map(|_| ["red", "green", "blue", "tea"][random.usize(..4)]).collect();
            let search = if random.bool() { text(&words.join(" ")) } else { None };
            change = change.with(match random.u8(..8) {
                0..=3 => upsert(&sort, "x").searched(search),
                4 => put(&sort, "y", PutMode::InsertIfAbsent).searched(search),
                5 => append("z").searched(search),
                6 => Operation::Delete { sort },
                _ => Operation::Trim { items: Some(random.u64(..8)), bytes: None, max_age: None },
            });
        }
        commit(&backend, change.clone()).await;
        commit(&reference, change).await;
        if random.u8(..20) == 0 {
            for backend in [&backend, &reference] {
                store(backend).delete_partition(&of).await.unwrap();
            }
        }
        for query in ["red", "\"green tea\"", "tea -red", "gre* OR blue", "red green"] {
            let expected = found(&reference, query).await;
            assert_eq!(found(&backend, query).await, expected, "step {step}, seed {seed}: {query}");
        }
    }
}
