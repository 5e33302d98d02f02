//! One call in several parts: what its caller is told.

use crate::{Error, ErrorKind, Result};

/// The answers to the parts of one write, or the error of the whole: the one rule for what goes to several stores, nodes or
/// statements, one of which may fail after another has written.
///
/// - Where no part was applied, it is the error of a part: `InvalidInput`, `Unavailable` and the like are true of all of it.
/// - Where some part was, or may have been, it is `OutcomeUnknown`, with the reason and the key of the part that failed.
///
/// Parts that were not begun need not be among the answers.
///
/// # Errors
/// As said above.
pub fn all_written<T>(answers: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let (mut written, mut errors) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(answer) => written.push(answer),
            Err(error) => errors.push(error),
        }
    }
    let unknown = |error: &Error| error.kind() == ErrorKind::OutcomeUnknown;
    let partly = !written.is_empty() || errors.iter().any(unknown);
    // Of several errors the one that no retry mends says most.
    let weight = |error: &Error| match error.kind() {
        ErrorKind::OutcomeUnknown => 0,
        ErrorKind::Unavailable | ErrorKind::Timeout => 1,
        _ => 2,
    };
    match errors.into_iter().max_by_key(weight) {
        None => Ok(written),
        Some(error) if !partly || unknown(&error) => Err(error),
        Some(error) => Err(in_part(&error)),
    }
}

fn in_part(error: &Error) -> Error {
    let message = format!("some of it was written or may have been, and some was not: {}", error.message());
    let told = Error::new(ErrorKind::OutcomeUnknown, message)
        .with_hint("read what is there before you write again")
        .with_source(error.clone());
    match error.key() {
        Some(key) => told.with_key(key),
        None => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_applied_in_part_is_an_unknown_outcome() {
        use ErrorKind::*;
        let ok = Ok(());
        let failed = |kind| Err(Error::new(kind, "why").with_key("k"));
        let table = [
            (vec![failed(InvalidInput), failed(Unavailable)], InvalidInput),
            (vec![failed(Timeout), failed(Timeout)], Timeout),
            (vec![ok.clone(), failed(InvalidInput)], OutcomeUnknown),
            (vec![ok.clone(), failed(Unauthorized)], OutcomeUnknown),
            (vec![failed(OutcomeUnknown), failed(Unavailable)], OutcomeUnknown),
            (vec![failed(OutcomeUnknown), failed(InvalidInput)], OutcomeUnknown),
            (vec![ok, failed(OutcomeUnknown)], OutcomeUnknown),
        ];
        for (answers, kind) in table {
            let shown = format!("{answers:?}");
            let error = all_written(answers).unwrap_err();
            assert_eq!((error.kind(), error.key()), (kind, Some("k")), "{shown}");
        }
        assert_eq!(all_written([Ok(1), Ok(2)]).unwrap(), [1, 2]);
    }
}
