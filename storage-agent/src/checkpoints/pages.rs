//! Queries of more than one page.

use storage_core::{CollectionStore, Item, Query, Result};

/// Everything of a query, over all its pages.
pub(super) async fn all(store: &dyn CollectionStore, query: Query) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut next = Some(query);
    while let Some(query) = next {
        let mut page = store.query(query.clone()).await?;
        next = query.after(&page);
        items.append(&mut page.items);
    }
    Ok(items)
}
