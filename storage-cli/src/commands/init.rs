//! `storage init`.

use serde_json::json;
use storage_core::ErrorKind;
use storage_factory::{Settings, connect_existing, get_storage_backend};

use crate::{
    failure::{DONE, Result},
    output::Output,
    store::place,
};

/// Makes the store, unless it is there.
pub(super) async fn run(settings: &Settings, out: &mut Output) -> Result<u8> {
    let (storage, made) = match connect_existing(settings).await {
        Ok(storage) => (storage, false),
        // Not there; where it is another fault of the settings, connecting says so again.
        Err(error) if error.kind() == ErrorKind::Config => {
            let storage = get_storage_backend(settings)?;
            storage.connect().await?;
            (storage, true)
        }
        Err(error) => return Err(error.into()),
    };
    let name = storage.name();
    storage.disconnect().await?;
    let document = json!({"backend": name, "made": made});
    let said = if made { "made" } else { "it is there already" };
    out.answer(&document, format_args!("{said}: {name}{}", place(settings)))?;
    Ok(DONE)
}
