//! Key rings from texts and files.

use std::{fs, os::unix::fs::PermissionsExt};

use storage_core::ErrorKind;
use storage_managed::home::Keys;

/// 32 bytes in hexadecimal, and the same in base64 without its padding.
const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1F";
const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

#[test]
fn rings_are_read_from_texts() {
    for (text, ids) in [
        (format!("a:{HEX}"), r#"["a"]"#),
        (format!(" 2026.a_-:{BASE64} , b:{BASE64}=,"), r#"["2026.a_-", "b"]"#),
        (format!("# the newest first, old:{HEX}\nb : {HEX}\n\na:{BASE64}=\n"), r#"["b", "a"]"#),
    ] {
        assert_eq!(format!("{:?}", Keys::parse(&text).unwrap()), format!("Keys({ids})"));
    }
}

#[test]
fn malformed_keys_are_refused_and_not_repeated() {
    let long = format!("{}:{HEX}", "i".repeat(33));
    let (short, signed) = (&HEX[..62], format!("+1{}", &HEX[2..]));
    for (text, says) in [
        (String::new(), "there is no key"),
        ("# a comment".to_owned(), "there is no key"),
        (HEX.to_owned(), "entry 1 of the keys has no `:`"),
        (format!("a:{HEX},{BASE64}"), "entry 2 of the keys has no `:`"),
        (format!(":{HEX}"), "entry 1 of the keys has no id"),
        (format!("{BASE64}+:a"), "entry 1 of the keys has no id"),
        (long, "entry 1 of the keys has no id"),
        (format!("a:{short}"), "is not of 32 bytes"),
        (format!("a:{HEX}00"), "is not of 32 bytes"),
        (format!("a:{signed}"), "is not of 32 bytes"),
        (format!("a:{BASE64}AA"), "is not of 32 bytes"),
        (format!("a:{}", &BASE64[..40]), "is not of 32 bytes"),
        (format!("a:{}", "00".repeat(32)), "one byte again and again"),
        (format!("a:{HEX},a:{BASE64}"), "two keys have the id `a`"),
    ] {
        let error = Keys::parse(&text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(says), "{says}: {shown}");
        assert!(!shown.contains(&HEX[2..20]) && !shown.contains(&BASE64[..20]), "{shown}");
    }
    assert_eq!(Keys::generate("no id").unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn generated_keys_are_new_each_time() {
    let (one, other) = (Keys::generate("a").unwrap(), Keys::generate("a").unwrap());
    assert_ne!(one, other);
    Keys::parse(&one).unwrap();
    assert!(!format!("{:?}", Keys::parse(&one).unwrap()).contains(&one[2..12]));
}

#[test]
fn a_key_file_is_nobody_elses_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let error = Keys::from_file(&path).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("cannot be read"), "{error}");
    fs::write(&path, format!("# ours\nb:{HEX}\na:{BASE64}\n")).unwrap();
    for (mode, is_taken) in [
        (0o600, true),
        (0o400, true),
        (0o440, true),
        (0o640, true),
        (0o644, false),
        (0o604, false),
        (0o660, false),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let read = Keys::from_file(&path);
        assert_eq!(read.is_ok(), is_taken, "{mode:o}");
        let refused = read.err().map(|error| (error.kind(), error.to_string()));
        assert!(refused.is_none_or(|(kind, text)| kind == ErrorKind::Config && text.contains("chmod 600")));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, HEX).unwrap();
    let error = Keys::from_file(&path).unwrap_err().to_string();
    assert!(error.contains("keys`: entry 1") && !error.contains(&HEX[..20]), "{error}");
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Keys::from_file(&path).unwrap_err().to_string().contains("UTF-8"));
}
