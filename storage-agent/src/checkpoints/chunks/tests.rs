//! That pieces are those of the content, whatever is known of an earlier one.

use proptest::prelude::*;

use super::*;

fn text(messages: usize) -> Bytes {
    (0..messages).flat_map(|i| blake3::hash(&i.to_be_bytes()).to_hex().repeat(17).into_bytes()).collect()
}

fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn all(cut: &Cut) -> HashSet<u128> {
    cut.levels.iter().flat_map(|level| hashes(level)).collect()
}

#[test]
fn the_chunks_are_the_payload_and_the_nodes_list_them_all() {
    for payload in [text(1), text(300), Bytes::from(vec![0; 3_000_000]), Bytes::new()] {
        let cut = Cut::of(&payload, None);
        let joined: Vec<u8> = cut.levels[0].iter().flat_map(|piece| cut.chunk(piece)).collect();
        assert!(joined == payload);
        assert!(cut.root().len() <= ROOT_ENTRIES);
        for pair in cut.levels.windows(2) {
            let listed: Vec<usize> = pair[1].iter().flat_map(|node| node.span.clone()).collect();
            assert_eq!(listed, (0..pair[0].len()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_message_more_changes_few_pieces_and_the_edges_lead_to_the_others() {
    let (old, new) = (Cut::of(&text(1000), None), Cut::of(&text(1001), None));
    let known = all(&old);
    assert!(all(&new).difference(&known).count() < 20);
    let edges: HashSet<u128> = old.edges().into_iter().collect();
    let reached = new.levels.iter().flatten().filter(|piece| edges.contains(&piece.hash)).count();
    assert!(reached > 0 && edges.len() < 200, "{reached} of {}", edges.len());
}

#[test]
fn a_large_payload_fits_one_commit() {
    let cut = Cut::of(&random(1, 40_000_000).into(), None);
    assert!(cut.levels.iter().map(Vec::len).sum::<usize>() < 10_000);
}

#[derive(Debug, Clone)]
enum Edit {
    Put { at: usize, bytes: Vec<u8> },
    Change { at: usize, bytes: Vec<u8> },
    Remove { at: usize, length: usize },
    Truncate { length: usize },
    Repeat { at: usize, length: usize },
}

/// Few different bytes, so that runs of them come again elsewhere.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let noise = (any::<u64>(), 0..4_000usize).prop_map(|(seed, length)| random(seed, length));
    let runs = (0u8..3, 0..9_000usize).prop_map(|(byte, length)| vec![byte; length]);
    prop_oneof![prop::collection::vec(0u8..4, 0..20), noise, runs]
}

/// Also right at and around the ends of chunks, whose places are drawn among all chunks.
fn edit() -> impl Strategy<Value = Edit> {
    let at = || prop_oneof![Just(0), Just(usize::MAX), any::<usize>()];
    prop_oneof![
        (at(), bytes()).prop_map(|(at, bytes)| Edit::Put { at, bytes }),
        (at(), bytes()).prop_map(|(at, bytes)| Edit::Change { at, bytes }),
        (at(), 0..3_000usize).prop_map(|(at, length)| Edit::Remove { at, length }),
        at().prop_map(|length| Edit::Truncate { length }),
        (at(), 0..30_000usize).prop_map(|(at, length)| Edit::Repeat { at, length }),
    ]
}

/// A place that is near the end of a chunk, or anywhere.
fn place(cut: &Cut, at: usize) -> usize {
    let (all, chunks) = (cut.bytes(), &cut.levels[0]);
    match at {
        0 => 0,
        usize::MAX => all,
        _ if at.is_multiple_of(2) || chunks.is_empty() => at % (all + 1),
        _ => (chunks[at / 8 % chunks.len()].span.end + at / 2 % 4).saturating_sub(1).min(all),
    }
}

fn edited(cut: &Cut, edit: &Edit) -> Bytes {
    let (old, mut new) = (&cut.payload, cut.payload.to_vec());
    match edit {
        Edit::Put { at, bytes } => {
            let at = place(cut, *at);
            new.splice(at..at, bytes.iter().copied());
        }
        Edit::Change { at, bytes } => {
            let at = place(cut, *at);
            new.splice(at..(at + bytes.len()).min(old.len()), bytes.iter().copied());
        }
        Edit::Remove { at, length } => {
            let at = place(cut, *at);
            new.drain(at..(at + length).min(old.len()));
        }
        Edit::Truncate { length } => new.truncate(place(cut, *length)),
        Edit::Repeat { at, length } => {
            let at = place(cut, *at);
            new.extend_from_slice(&old[at..(at + length).min(old.len())]);
        }
    }
    new.into()
}

proptest! {
    #[test]
    fn with_an_earlier_cut_it_comes_out_as_without(
        first in bytes(), length in 0..120_000usize, edits in prop::collection::vec(edit(), 1..12)
    ) {
        let first: Bytes = [first, random(length as u64, length)].concat().into();
        let mut cut = Cut::of(&first, None);
        for edit in edits {
            let payload = edited(&cut, &edit);
            let (with, without) = (Cut::of(&payload, Some(&cut)), Cut::of(&payload, None));
            prop_assert!(with.payload == without.payload && with.levels == without.levels);
            cut = with;
        }
    }

    #[test]
    fn an_edit_at_each_end_of_a_chunk_moves_it_as_if_nothing_were_known(byte in any::<u8>(), seed in any::<u64>()) {
        let payload = random(seed, 6_000);
        let earlier = Cut::of(&payload.clone().into(), None);
        for end in earlier.levels[0].iter().flat_map(|chunk| [chunk.span.end - 1, chunk.span.end, chunk.span.end + 1]) {
            let (mut changed, mut short) = (payload.clone(), payload.clone());
            if let Some(place) = changed.get_mut(end) {
                *place = byte;
            }
            short.truncate(end);
            for payload in [Bytes::from(changed), Bytes::from(short)] {
                prop_assert_eq!(Cut::of(&payload, Some(&earlier)).levels, Cut::of(&payload, None).levels);
            }
        }
    }
}

#[test]
fn what_grows_or_changes_little_is_hardly_cut_anew() {
    let old = text(1000);
    let cut = Cut::of(&old, None);
    assert_eq!((cut.fresh, Cut::of(&old, Some(&cut)).fresh < 2_100), (old.len(), true));
    let header = |bytes: &[u8]| Bytes::from([b"list of 1001", bytes].concat());
    let mut middle = old.to_vec();
    middle.splice(400_000..403_000, random(7, 5_000));
    let inserted: Bytes = [&old[..300_000], &text(60)[50_000..], &old[300_000..]].concat().into();
    for new in [text(1001), header(&old), header(&text(1001)), middle.into(), inserted, old.slice(5_000..)] {
        let fresh = Cut::of(&new, Some(&cut)).fresh;
        assert!(fresh < 30_000, "{fresh} of {}", new.len());
    }
}
