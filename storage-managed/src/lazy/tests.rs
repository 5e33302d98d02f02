//! Page sizes of all kinds, in segments of both formats.

use std::{path::Path, sync::Arc};

use rusqlite::Connection;

use super::*;
use crate::{
    format::{
        Base, Head, Hex, PAGED_FORMAT, SEGMENT_FORMAT, SegmentHeader, Sums, base_name, page_sum,
        segment_name, write_paged,
    },
    home::{Body, FolderHome, Home},
};

/// A database at three moments: made, grown and changed, and cut.
fn versions(folder: &Path, page_size: u32) -> Vec<Vec<u8>> {
    let path = folder.join("made.db");
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "page_size", page_size).unwrap();
    db.pragma_update(None, "auto_vacuum", "full").unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    let steps = [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO t SELECT i, randomblob(300) FROM n",
        "INSERT INTO t SELECT id + 2000, randomblob(400) FROM t; UPDATE t SET body = randomblob(200) WHERE id % 7 = 0",
        "DELETE FROM t WHERE id > 3000 OR id % 5 = 0",
    ];
    let bytes = steps.map(|step| {
        db.execute_batch(step).unwrap();
        db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        std::fs::read(&path).unwrap()
    });
    bytes.into()
}

fn sums(bytes: &[u8], page_size: u32) -> Sums {
    let mut sums = Sums::new(page_size);
    let pages = bytes.chunks(page_size as usize);
    sums.resize(u32::try_from(pages.len()).unwrap());
    (1..).zip(pages).for_each(|(number, page)| sums.set(number, page_sum(number, page)));
    sums
}

fn page(bytes: &[u8], number: u32, page_size: u32) -> Option<&[u8]> {
    bytes.chunks(page_size as usize).nth(number as usize - 1)
}

/// The segment that leads from one version to the next.
fn segment(mut header: SegmentHeader, before: &[u8], after: &[u8]) -> Vec<u8> {
    let size = header.page_size;
    let changed = |number: &u32| page(before, *number, size) != page(after, *number, size);
    let numbers: Vec<u32> = (1..=header.page_count).filter(changed).collect();
    header.pages = u32::try_from(numbers.len()).unwrap();
    if header.format == SEGMENT_FORMAT {
        let fill = |number, buffer: &mut [u8]| {
            buffer.copy_from_slice(page(after, number, size).unwrap());
            Ok(())
        };
        return header.encode(&numbers, fill).unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let fill = |number, buffer: &mut [u8]| {
        buffer.copy_from_slice(page(after, number, size).unwrap());
        Ok(())
    };
    write_paged(file.as_file(), header, &numbers, fill, file.path()).unwrap();
    std::fs::read(file.path()).unwrap()
}

/// Publishes all versions: a base, and a segment of each format.
async fn publish(home: &FolderHome, versions: &[Vec<u8>], page_size: u32) {
    let state = |version: usize| {
        let sums = sums(&versions[version], page_size);
        (sums.page_count(), sums.total())
    };
    let put = async |name: String, bytes: Vec<u8>| {
        let length = bytes.len() as u64;
        assert!(home.put(&name, Body::Bytes(bytes.into()), &|_| {}).await.unwrap());
        length
    };
    let commit = |generation: u64| Hex(100 + u128::from(generation));
    put(base_name(1, commit(1)), versions[0].clone()).await;
    let mut commits = vec![(commit(1), 0)];
    for (generation, format) in [(2, SEGMENT_FORMAT), (3, PAGED_FORMAT)] {
        let at = usize::try_from(generation).unwrap() - 1;
        let ((page_count, checksum), (_, parent_checksum)) = (state(at), state(at - 1));
        let header = SegmentHeader {
            format,
            incarnation: Hex(1),
            generation,
            commit: commit(generation),
            parent: commit(generation - 1),
            page_size,
            page_count,
            parent_checksum,
            checksum,
            pages: 0,
            first: None,
            frame_pages: None,
        };
        let bytes = segment(header, &versions[at - 1], &versions[at]);
        commits.push((commit(generation), put(segment_name(generation, commit(generation)), bytes).await));
    }
    let ((base_pages, base_checksum), (page_count, checksum)) = (state(0), state(2));
    let base = Base { generation: 1, commit: commit(1), page_count: base_pages, checksum: base_checksum };
    let head = Head {
        generation: 3,
        commit: commit(3),
        page_count,
        checksum,
        commits,
        ..Head::of_base(Hex(1), page_size, base, Some(commit(2)))
    };
    home.create("head", head.encode().into(), None).await.unwrap();
}

type Rows = Vec<(i64, Vec<u8>)>;

fn rows(db: &Connection) -> rusqlite::Result<Rows> {
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    assert_eq!(sound, "ok");
    db.prepare("SELECT id, body FROM t")?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_all_sizes_are_read() {
    for page_size in [512, 1024, 8192, 65_536] {
        let folder = tempfile::tempdir().unwrap();
        let versions = versions(folder.path(), page_size);
        let home = FolderHome::new(folder.path().join("home"));
        publish(&home, &versions, page_size).await;
        let path = folder.path().join("expected.db");
        std::fs::write(&path, versions.last().unwrap()).unwrap();
        let expected = rows(&Connection::open(&path).unwrap()).unwrap();
        for _ in 0..2 {
            let home = Arc::new(FolderHome::new(folder.path().join("home")));
            let options = ReplicaOptions::new(folder.path().join("cache"));
            let replica = Replica::open(home, options).await.unwrap();
            assert!(replica.read(rows).await.unwrap() == expected, "{page_size}");
        }
    }
}
