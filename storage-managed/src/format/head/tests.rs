//! What a head says.

use super::*;

fn head(generations: u64) -> Head {
    let mut head = Head {
        format: FORMAT,
        incarnation: Hex(7),
        generation: 1,
        commit: Hex(1),
        parent: None,
        page_size: 4096,
        page_count: 2,
        checksum: Hex(9),
        base: Base { generation: 1, commit: Hex(1), page_count: 2, checksum: Hex(9) },
        index: None,
        repaired: None,
        commits: vec![(Hex(1), 0)],
        pages: Pages::default(),
    };
    for generation in 2..=generations {
        (head.generation, head.parent, head.commit) = (generation, Some(head.commit), Hex(generation.into()));
        head.push(Hex(generation.into()), 10, Some(vec![1, u32::try_from(generation).unwrap()]));
    }
    head
}

#[test]
fn commits_are_found_by_generation_and_back() {
    let head = head(100);
    assert_eq!(Head::decode(&head.encode()).unwrap(), head);
    assert_eq!((head.singles(), head.chain_bytes()), (99, 990));
    assert_eq!(head.commit_at(100), Some((Hex(100), 10)));
    assert_eq!(head.commit_at(2), Some((Hex(2), 10)));
}

#[test]
fn a_head_that_is_none_is_refused_by_name() {
    let mut later = head(2);
    later.format = 4;
    let error = Head::decode(&later.encode()).unwrap_err().to_string();
    assert_eq!(error, "the home is of format 4, this release reads formats 1 to 3");
    let mut wrong = head(2);
    wrong.base.generation = 3;
    for bytes in [b"{}".to_vec(), b"\xff".to_vec(), wrong.encode()] {
        assert!(matches!(Head::decode(&bytes), Err(Error::Corrupt { object, .. }) if object == "head"));
    }
}

#[test]
fn every_damaged_byte_of_a_head_is_noticed() {
    let bytes = head(5).encode();
    for at in 0..bytes.len() {
        for damage in 0..=u8::MAX {
            let mut damaged = bytes.clone();
            damaged[at] = damage;
            let same = damaged.eq_ignore_ascii_case(&bytes);
            assert!(same || Head::decode(&damaged).is_err(), "{}", String::from_utf8_lossy(&damaged));
        }
        assert!(Head::decode(&bytes[..at]).is_err());
    }
}

#[test]
fn a_head_of_an_earlier_format_is_read_and_written_in_the_newest() {
    let mut first = head(5);
    first.format = 1;
    let bytes = serde_json::to_vec(&first).unwrap();
    assert_eq!(Head::decode(&bytes).unwrap(), head(5));
    // The second told of folds.
    let mut second: Vec<u8> = serde_json::to_string(&Head { format: 2, ..head(5) }).unwrap().into_bytes();
    second.pop();
    second.extend(b",\"folds\":[[1,0]]");
    let sum = Hex::of(&second).to_string();
    second.extend([SUM, sum.as_bytes(), b"\"}"].concat());
    let read = Head::decode(&second).unwrap();
    assert_eq!(read, head(5));
    assert!(read.encode().starts_with(b"{\"format\":3,"));
}

#[test]
fn the_pages_of_single_segments_are_named_as_far_as_they_are_few() {
    let mut head = head(4);
    assert_eq!(
        (head.pages_at(4), head.pages_at(2), head.pages_at(1)),
        (Some(&[1, 4][..]), Some(&[1, 2][..]), None)
    );
    // A release that does not know them leaves them out, and is followed by one that does.
    head.pages = Pages::default();
    for (generation, pages) in [(5, Some(vec![3])), (6, Some((1..40).collect())), (7, Some(vec![8]))] {
        (head.generation, head.commit) = (generation, Hex(generation.into()));
        head.push(head.commit, 10, pages);
    }
    let head = Head::decode(&head.encode()).unwrap();
    let named = |generation| head.pages_at(generation).map(<[u32]>::to_vec);
    assert_eq!([named(4), named(5), named(6), named(7)], [None, Some(vec![3]), None, Some(vec![8])]);
    let mut merged = head.clone();
    merged.index = Some(IndexRef { generation: 6, id: Hex(3), bytes: 500 });
    merged.forget();
    assert_eq!(merged.pages, Pages(7, vec![Some(vec![8])]));
    for pages in [vec![0], vec![4, 4]] {
        let wrong = Head { pages: Pages(7, vec![Some(pages)]), ..merged.clone() };
        assert!(Head::decode(&wrong.encode()).is_err());
    }
    // Others may copy what they do not know to the head of a later generation, or of a later index.
    let mut copied = merged.clone();
    (copied.generation, copied.commit) = (8, Hex(8));
    copied.commits.push((Hex(8), 10));
    assert_eq!(Head::decode(&copied.encode()).unwrap().pages, Pages::default());
    let copied = Head { pages: head.pages.clone(), ..merged.clone() };
    assert_eq!(Head::decode(&copied.encode()).unwrap().pages, merged.pages);
}

#[test]
fn a_head_stays_small_where_nobody_merges() {
    let mut head = head(1);
    for generation in 2..=200 {
        (head.generation, head.commit) = (generation, Hex(generation.into()));
        head.push(head.commit, 10, Some((1..=32).collect()));
    }
    assert_eq!(head.pages.1.len(), 32);
    assert_eq!((head.pages_at(200).map(<[u32]>::len), head.pages_at(168)), (Some(32), None));
}

#[test]
fn what_is_merged_is_no_single_segment_and_may_be_forgotten() {
    let mut head = head(200);
    head.index = Some(IndexRef { generation: 180, id: Hex(3), bytes: 500 });
    head.forget();
    assert_eq!((head.singles(), head.chain_bytes(), head.commits.len()), (20, 700, 64));
    // A base behind the last merge.
    head.base.generation = 190;
    head.index = head.index.map(|index| IndexRef { bytes: 0, ..index });
    assert_eq!((head.singles(), head.chain_bytes()), (20, 100));
    assert_eq!(Head::decode(&head.encode()).unwrap(), head);
    head.index = Some(IndexRef { generation: 201, id: Hex(3), bytes: 0 });
    assert!(Head::decode(&head.encode()).is_err());
}
