//! What a memory is found by.

use storage_core::{Json, MAX_LABELS, Partition, SearchText};

use super::layout::split;
use crate::texts::{label, of_json};

/// Of an item as it is written; `None` where it is no memory, or holds no text.
pub(crate) fn text(partition: &Partition, sort: &str, _: &Json, body: &[u8]) -> Option<SearchText> {
    let (namespace, _) = split(partition, sort).ok()?;
    let text = SearchText::new(&of_json(std::str::from_utf8(body).ok()?, true));
    if text.words().is_empty() {
        return None;
    }
    let depths = 1..=namespace.len().min(MAX_LABELS);
    let labels = depths.filter_map(|depth| namespace.get(..depth)).map(by_namespace);
    labels.into_iter().try_fold(text, |text, label| text.with_label(label)).ok()
}

/// What everything in a namespace and below it has; of a long one its first labels tell.
pub(super) fn by_namespace<T: AsRef<str>>(namespace: &[T]) -> String {
    let labels = namespace.iter().take(MAX_LABELS);
    label('n', &labels.flat_map(|label| [label.as_ref(), "\u{1}"]).collect::<String>())
}
