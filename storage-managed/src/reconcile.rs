//! What a cache is worth that its own record does not explain: the home knows what was published.

use crate::{
    cache::{Intent, Published, State},
    error::Result,
    format::{Head, Id, Sums, segment_name},
    judge::{Made, Standing},
    recover::Here,
    remote::Remote,
};

/// What is to be done with a cache.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is a published generation.
    Sound(State, Sums),
    /// On top of a published generation it has a batch that can still be published.
    Unsettled(State, Sums, Id),
    /// Everything in it that a store has acknowledged is in the home: a copy is kept, and the cache fetched anew.
    Anew(Option<Id>),
    /// It has what the home does not have and cannot take.
    Diverged(Option<State>),
}

/// Judges a cache that has something on top of what its record says is published.
pub(crate) async fn committed(
    remote: &Remote,
    head: Option<&Head>,
    (state, published): (State, Sums),
    commit: Id,
    here: Here,
) -> Result<Verdict> {
    let made = made(&state, commit, &here);
    Ok(match made.standing_in(remote, head).await? {
        Standing::Open => Verdict::Unsettled(state, published, commit),
        Standing::Published if has_content(&made, remote, head).await? => at(&state, &made, here, head),
        // The batch is in the home; what is here is more, or cannot be compared any more.
        Standing::Published => Verdict::Anew(state.incarnation),
        // Nobody was told that it is in the home, unless it is.
        Standing::Moved | Standing::Forgotten if head.is_some_and(|head| is_later(head, &state)) => {
            Verdict::Anew(state.incarnation)
        }
        Standing::Moved | Standing::Forgotten => Verdict::Diverged(Some(state)),
    })
}

/// Judges a cache that is not what its record says, or has none.
pub(crate) async fn other(
    remote: &Remote,
    head: Option<&Head>,
    state: Option<State>,
    here: Option<Here>,
) -> Result<Verdict> {
    if let (Some(here), Some(head)) = (&here, head)
        && is_head(head, state.as_ref(), here)
    {
        let known = State::new(Some(head.incarnation), Published::of(head, here.end));
        let wrote = state.is_none_or(|state| state.wrote);
        return Ok(Verdict::Sound(known.having_written(wrote), here.sums.clone()));
    }
    let Some(state) = state else { return Ok(Verdict::Diverged(None)) };
    // Somebody else has written back a batch before the record said that it was published.
    if let (Some(here), Some(Intent::Commit(commit))) = (here, state.intent) {
        let made = made(&state, commit, &here);
        if made.standing_in(remote, head).await? == Standing::Published
            && has_content(&made, remote, head).await?
        {
            return Ok(at(&state, &made, here, head));
        }
    }
    Ok(if state.wrote { Verdict::Diverged(Some(state)) } else { Verdict::Anew(state.incarnation) })
}

fn made(state: &State, commit: Id, here: &Here) -> Made {
    Made {
        commit,
        parent: state.published.commit,
        incarnation: state.incarnation,
        generation: state.published.generation + 1,
        page_count: here.sums.page_count(),
        checksum: here.sums.total(),
    }
}

/// Whether a head is a later state of what this record says is published, as far as it tells.
pub(crate) fn is_later(head: &Head, state: &State) -> bool {
    let published = &state.published;
    state.incarnation.is_none_or(|known| known == head.incarnation)
        && head.generation >= published.generation
        && head.commit_at(published.generation).is_none_or(|(commit, _)| Some(commit) == published.commit)
}

fn is_head(head: &Head, state: Option<&State>, here: &Here) -> bool {
    let known = state.and_then(|state| state.incarnation);
    known.is_none_or(|known| known == head.incarnation)
        && head.page_size == here.sums.page_size()
        && (head.page_count, head.checksum) == (here.sums.page_count(), here.sums.total())
}

/// Whether the home has what is here under this commit, which is published: by the head, by the commit's segment, or by what
/// was built on it.
async fn has_content(made: &Made, remote: &Remote, head: Option<&Head>) -> Result<bool> {
    if let Some(head) = head {
        if head.generation == made.generation {
            return Ok((head.page_count, head.checksum) == (made.page_count, made.checksum));
        }
        if head.base.generation == made.generation {
            return Ok((head.base.page_count, head.base.checksum) == (made.page_count, made.checksum));
        }
    }
    if let Some(segment) = remote.segment(&segment_name(made.generation, made.commit)).await? {
        return Ok(made.is_told_by(&segment.header));
    }
    made.was_followed(remote).await
}

/// The cache at the generation of its batch.
fn at(state: &State, made: &Made, here: Here, head: Option<&Head>) -> Verdict {
    let published = Published {
        generation: made.generation,
        commit: Some(made.commit),
        page_count: made.page_count,
        checksum: made.checksum,
        mark: here.end,
        ..state.published
    };
    let incarnation = state.incarnation.or(head.map(|head| head.incarnation));
    Verdict::Sound(State::new(incarnation, published).having_written(true), here.sums)
}
