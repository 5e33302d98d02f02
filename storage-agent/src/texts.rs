//! The text in stored JSON, and the labels that narrow a search.

use serde_json::Value;

/// So much of a text is taken: more than is indexed of it.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// A label of 17 characters: names of any length are told apart by 64 bits of their BLAKE3. Who searches by one checks what it finds.
pub(crate) fn label(class: char, name: &str) -> String {
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{class}{}", hash.as_str().get(..16).unwrap_or_default())
}

/// The strings of a value, a line each: all of them, or only those that say something: members `text` and `content`, elements of
/// lists, and a string by itself.
pub(crate) fn of_json(json: &str, all: bool) -> String {
    let mut text = String::new();
    if let Ok(value) = serde_json::from_str(json) {
        gather(&value, all, true, &mut text);
    }
    text
}

fn gather(value: &Value, all: bool, says: bool, text: &mut String) {
    match value {
        Value::String(string) if says && text.len() < MAX_TEXT_BYTES => {
            text.push_str(string);
            text.push('\n');
        }
        Value::Array(values) => values.iter().for_each(|value| gather(value, all, true, text)),
        Value::Object(members) => {
            for (name, value) in members {
                gather(value, all, all || matches!(name.as_str(), "text" | "content"), text);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strings_that_say_something_are_taken() {
        let blocks = r#"[{"type":"text","text":"one"},{"type":"tool_result","content":[{"type":"text","text":"two"}]},
            {"type":"image","source":{"data":"AAAA"}},"three",4,null]"#;
        assert_eq!(of_json(blocks, false), "one\ntwo\nthree\n");
        assert_eq!(of_json(r#"{"fact":"one","deep":{"n":[1,"two"]}}"#, true), "two\none\n");
        assert_eq!(of_json(r#""plain""#, false), "plain\n");
        assert_eq!(of_json("no json", true), "");
    }
}
