//! What only the inside can tell: the plans of the statements, and how much work they do.

use std::sync::Arc;

use rusqlite::{Connection, StatementStatus, ToSql, params};
use storage_core::{Clock, Commit, Json, Operation, Order, Partition, PutMode, Query, SystemClock};

use super::{
    commit::commit,
    item::{self, upper},
    partition::{self, sweep},
    query, search,
};
use crate::{
    SqliteConfig,
    connections::{
        file::DatabaseFile,
        open::{Role, open},
    },
    statements::entries::View,
};

fn file() -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let config = Arc::new(SqliteConfig::new(folder.path().join("agent.db")));
    let db = open(&DatabaseFile::new(&config), Role::Writer).unwrap();
    (folder, db)
}

fn view(db: &Connection) -> View<'_> {
    View { db, call: None, now: SystemClock.now() }
}

fn plan(db: &Connection, sql: &str, params: &[&dyn ToSql]) -> String {
    let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps = explain.query_map(params, |row| row.get::<_, String>(3)).unwrap();
    steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
}

#[test]
fn every_statement_uses_an_index_and_none_sorts() {
    let (_folder, db) = file();
    let end = upper(None);
    let by_name = "p USING INDEX sqlite_autoindex_storage_partition_1 (name=?)";
    let by_range = "i USING INDEX storage_item_sort (partition=? AND sort>? AND sort<?)";
    let range: &[&dyn ToSql] = &[&"k:1", &1, &"", &end, &1];
    let table: [(&str, &[&dyn ToSql], &[&str]); 15] = [
        (query::ASCENDING, range, &[by_name, by_range]),
        (query::DESCENDING, range, &[by_name, by_range]),
        (query::ITEM, &[&1, &"a", &1], &["i USING INDEX storage_item_sort (partition=? AND sort=?)"]),
        (query::BODY, &[&1], &["USING INTEGER PRIMARY KEY (rowid=?)"]),
        (item::FIND, &[&1, &"a"], &["USING INDEX storage_item_sort (partition=? AND sort=?)"]),
        (item::TAGGED, &[&1, &"t"], &["USING INDEX storage_item_tag (partition=? AND tag=?)"]),
        (item::FROM_START, &[&1], &["USING INDEX storage_item_sort (partition=?)"]),
        (item::MEASURE, &[&1, &"", &end], &["storage_item_sort (partition=? AND sort>? AND sort<?)"]),
        (item::REMOVE_RANGE, &[&1, &"", &end], &["storage_item_sort (partition=? AND sort>? AND sort<?)"]),
        (item::REMOVE, &[&1], &["USING INTEGER PRIMARY KEY (rowid=?)"]),
        (item::ATTRIBUTES, &[&1], &["USING INTEGER PRIMARY KEY (rowid=?)"]),
        (partition::FIND, &[&"k:1"], &["USING INDEX sqlite_autoindex_storage_partition_1 (name=?)"]),
        (partition::LIST, &[&"k:", &"k;"], &["sqlite_autoindex_storage_partition_1 (name>? AND name<?)"]),
        (partition::ENDED, &[&1], &["USING COVERING INDEX storage_partition_expiry (expires_at_ms<?)"]),
        (partition::LEFT_BEHIND, &[&1, &10], &["USING INDEX storage_item_sort (partition=?)"]),
    ];
    for (sql, params, expected) in table {
        let plan = plan(&db, sql, params);
        for step in expected {
            assert!(plan.contains(step), "{sql}: {plan}");
        }
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
    for sql in [item::REPLACE, item::REPLACE_ATTRIBUTES, partition::UPDATE, partition::SET_EXPIRY] {
        let count = db.prepare(sql).unwrap().parameter_count();
        let nulls: Vec<&dyn ToSql> = (0..count).map(|_| &1 as &dyn ToSql).collect();
        assert!(plan(&db, sql, &nulls).contains("USING INTEGER PRIMARY KEY (rowid=?)"), "{sql}");
    }
    assert!(plan(&db, partition::END, params![1]).contains("USING INTEGER PRIMARY KEY (rowid=?)"));
    assert!(plan(&db, partition::REMOVE, params![1]).contains("USING INTEGER PRIMARY KEY (rowid=?)"));
}

#[test]
fn a_search_looks_up_what_fts5_has_ranked() {
    let (_folder, db) = file();
    let all: &[&dyn ToSql] = &[&"words : (\"a\")", &"k:", &"k;", &1, &0, &10, &0, &1, &"[]"];
    for (sql, params) in [(search::SEARCH, &all[..8]), (search::SEARCH_WITHIN, all)] {
        let plan = plan(&db, sql, params);
        assert!(plan.starts_with("SCAN t VIRTUAL TABLE INDEX 32"), "FTS5 sorts (32): {plan}");
        assert!(plan.contains("i USING INTEGER PRIMARY KEY (rowid=?)"), "{plan}");
        assert!(plan.contains("p USING INTEGER PRIMARY KEY (rowid=?)"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}

fn of() -> Partition {
    Partition::new("thread", &["t-1"]).unwrap()
}

fn append(count: usize) -> Commit {
    let message = || Operation::append("m:", Json::from(1), "x".repeat(100));
    (0..count).fold(Commit::new(of()), |commit, _| commit.with(message()))
}

/// A partition of so many items.
fn filled(items: usize) -> (tempfile::TempDir, Connection) {
    let (folder, db) = file();
    db.execute_batch("BEGIN").unwrap();
    for _ in 0..items / 100 {
        commit(&view(&db), &append(100)).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    (folder, db)
}

/// The steps of SQLite's machine that `work` takes in these statements.
fn steps(db: &Connection, statements: &[&str], work: impl FnOnce(&View<'_>)) -> i32 {
    for sql in statements {
        db.prepare_cached(sql).unwrap().reset_status(StatementStatus::VmStep);
    }
    work(&view(db));
    statements.iter().map(|sql| db.prepare_cached(sql).unwrap().get_status(StatementStatus::VmStep)).sum()
}

#[test]
fn a_query_reads_no_more_of_a_large_partition_than_of_a_small_one() {
    let ((_small_folder, small), (_large_folder, large)) = (filled(100), filled(10_000));
    let statements = [query::ASCENDING, query::DESCENDING];
    for order in [Order::Ascending, Order::Descending] {
        for limit in [1, 10] {
            let read = |db: &Connection| {
                steps(db, &statements, |view| {
                    let page = query::page(view, &Query::all(of(), limit).order(order)).unwrap();
                    assert!(page.more && page.items.len() == limit);
                })
            };
            assert_eq!(read(&small), read(&large), "{order:?} {limit}");
        }
    }
    let row =
        |limit| steps(&large, &statements, |view| drop(query::page(view, &Query::all(of(), limit)).unwrap()));
    let (one, ten) = (row(1), row(10));
    assert_eq!((ten - one) % 9, 0, "each row costs the same: {one}, {ten}");
}

#[test]
fn a_commit_costs_what_it_changes_not_what_the_partition_has() {
    let ((_small_folder, small), (_large_folder, large)) = (filled(200), filled(10_000));
    let statements = [
        item::FIND,
        item::INSERT,
        item::REPLACE,
        item::REMOVE,
        item::TAGGED,
        item::MEASURE,
        item::REMOVE_RANGE,
        item::FROM_START,
        partition::FIND,
        partition::UPDATE,
    ];
    let trim = |items| Operation::Trim { items: Some(items), bytes: None, max_age: None };
    let commits = |held: u64| {
        [
            append(1),
            append(10),
            Commit::new(of()).with(Operation::put("a", Json::from(1), "x", PutMode::Upsert)),
            Commit::new(of()).with(Operation::put("a", Json::from(2), "y", PutMode::Upsert)),
            Commit::new(of()).with(Operation::Delete { sort: "a".into() }),
            append(5).with(trim(held + 11)),
            Commit::new(of()).with(Operation::DeleteRange {
                from: storage_core::sequence_key("m:", 20),
                to: Some(storage_core::sequence_key("m:", 30)),
            }),
        ]
    };
    for (number, (one, other)) in commits(200).into_iter().zip(commits(10_000)).enumerate() {
        let cost = |db: &Connection, change: &Commit| {
            steps(db, &statements, |view| drop(commit(view, change).unwrap()))
        };
        assert_eq!(cost(&small, &one), cost(&large, &other), "commit {number}");
    }
}

#[test]
fn a_sweep_costs_what_it_removes() {
    let (_folder, db) = filled(10_000);
    let statements = [partition::ENDED, partition::LEFT_BEHIND, item::REMOVE, partition::END];
    let nothing = steps(&db, &statements, |view| assert_eq!(sweep(view, 100).unwrap(), 0));
    assert!(nothing < 50, "{nothing}");
    assert!(partition::delete(&view(&db), of().as_str()).unwrap());
    let batch = || steps(&db, &statements, |view| assert_eq!(sweep(view, 100).unwrap(), 100));
    assert_eq!(batch(), batch());
}
