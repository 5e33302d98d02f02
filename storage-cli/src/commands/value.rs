//! The value to write: from the command line or from stdin.

use std::io::{self, Read};

use storage_core::Json;

use crate::failure::{Failure, Result};

/// Checks `text`, or all of stdin for `-`, as a value. White space around it is left out.
pub(super) fn read(text: &str, max_value_bytes: usize) -> Result<Json> {
    let read = if text == "-" { from_stdin(max_value_bytes)? } else { text.to_owned() };
    let read = read.trim_start_matches('\u{feff}').trim();
    Json::parse(read.to_owned()).map_err(|error| match read.starts_with(char::is_alphabetic) {
        true => Failure::from(error).hint(r#"a text needs quotes of its own: '"text"'"#),
        false => error.into(),
    })
}

fn from_stdin(max_value_bytes: usize) -> Result<String> {
    // A little more, for the line break at the end.
    let limit = max_value_bytes as u64 + 64;
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::input(format!("stdin cannot be read: {error}")))?;
    if bytes.len() as u64 > limit {
        let failure = Failure::input(format!("a value may have {max_value_bytes} bytes; stdin has more"));
        return Err(failure.hint("STORAGE_MAX_VALUE_BYTES sets the limit"));
    }
    String::from_utf8(bytes).map_err(|_| Failure::input("stdin is not UTF-8"))
}
