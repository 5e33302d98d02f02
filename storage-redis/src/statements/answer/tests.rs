use super::*;

fn bulk(text: &'static str) -> Answer {
    Answer::Bulk(Bytes::from_static(text.as_bytes()))
}

fn status(text: &'static str) -> Answer {
    Answer::Status(Bytes::from_static(text.as_bytes()))
}

fn fail(line: &str) -> Answer {
    Answer::Error(ServerError::new(line))
}

fn table() -> Vec<(&'static [u8], Answer)> {
    let mixed = vec![
        bulk("a"),
        Answer::Array(vec![Answer::Int(1), fail("ERR no")]),
        Answer::Nil,
        Answer::Status(Bytes::from_static(b"QUEUED")),
    ];
    vec![
        (b"+OK\r\n", Answer::Status(Bytes::from_static(b"OK"))),
        (b"-MOVED 1 127.0.0.1:7000\r\n", fail("MOVED 1 127.0.0.1:7000")),
        (b":-42\r\n", Answer::Int(-42)),
        (b"$5\r\nhello\r\n", bulk("hello")),
        (b"$0\r\n\r\n", bulk("")),
        (b"$-1\r\n", Answer::Nil),
        (b"$4\r\n\r\n\r\n\r\n", bulk("\r\n\r\n")),
        (b"*0\r\n", Answer::Array(vec![])),
        (b"*-1\r\n", Answer::Nil),
        (b"_\r\n", Answer::Nil),
        (b"#t\r\n", Answer::Int(1)),
        (b"#f\r\n", Answer::Int(0)),
        (b",1.5\r\n", bulk("1.5")),
        (
            b"(3492890328409238509324850943850943825024385\r\n",
            bulk("3492890328409238509324850943850943825024385"),
        ),
        (b"!8\r\nERR no\r\n\r\n", fail("ERR no\r\n")),
        (b"=8\r\ntxt:some\r\n", bulk("some")),
        (b"%1\r\n+a\r\n:1\r\n", Answer::Array(vec![status("a"), Answer::Int(1)])),
        (b"%0\r\n", Answer::Array(vec![])),
        (b"~2\r\n:1\r\n:2\r\n", Answer::Array(vec![Answer::Int(1), Answer::Int(2)])),
        (b">2\r\n+message\r\n$1\r\na\r\n", Answer::Push(vec![status("message"), bulk("a")])),
        (b"|1\r\n+ttl\r\n:9\r\n$1\r\na\r\n", bulk("a")),
        (
            b"*2\r\n|1\r\n+ttl\r\n*1\r\n:9\r\n:1\r\n|0\r\n:2\r\n",
            Answer::Array(vec![Answer::Int(1), Answer::Int(2)]),
        ),
        (b"*4\r\n$1\r\na\r\n*2\r\n:1\r\n-ERR no\r\n$-1\r\n+QUEUED\r\n", Answer::Array(mixed)),
    ]
}

#[test]
fn answers_by_table() {
    let mut decoder = Decoder::default();
    for (bytes, expected) in table() {
        let mut arrived = BytesMut::from(bytes);
        assert_eq!(decoder.decode(&mut arrived).unwrap().unwrap(), expected, "{bytes:?}");
        assert!(arrived.is_empty());
    }
}

#[test]
fn an_answer_is_whole_once_its_last_byte_has_arrived_and_what_follows_is_left() {
    for (bytes, expected) in table() {
        let (mut decoder, mut arrived) = (Decoder::default(), BytesMut::new());
        let (last, before) = bytes.split_last().unwrap();
        for byte in before {
            arrived.extend_from_slice(&[*byte]);
            assert!(decoder.decode(&mut arrived).unwrap().is_none(), "{arrived:?} of {bytes:?}");
        }
        arrived.extend_from_slice(&[&[*last], &b":1\r\n"[..]].concat());
        assert_eq!(decoder.decode(&mut arrived).unwrap().unwrap(), expected);
        assert_eq!(arrived, b":1\r\n"[..]);
        assert_eq!(decoder.decode(&mut arrived).unwrap().unwrap(), Answer::Int(1));
    }
}

#[test]
fn what_is_no_answer_is_refused_and_nothing_is_allocated_for_what_is_only_announced() {
    let deep = b"*1\r\n".repeat(40);
    let attributes = b"|1\r\n".repeat(40);
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"$-2\r\n",
        b"$99999999999\r\n",
        b"*99999999999\r\n",
        b":1x\r\n",
        b"+OK\n",
        b"\x15\x03\x03\n",
        b"$?\r\n",
        b"=3\r\ntxt\r\n",
        b"%99999999999\r\n",
        b"*2\r\n:1\r\n?\r\n",
        &deep,
        &attributes,
    ] {
        assert!(Decoder::default().decode(&mut BytesMut::from(garbage)).is_err(), "{garbage:?}");
    }
    let many = [&b"|0\r\n".repeat(1_000_000)[..], b":1\r\n"].concat();
    let answer = Decoder::default().decode(&mut BytesMut::from(&many[..]));
    assert_eq!(answer.unwrap(), Some(Answer::Int(1)));
    let mut announced = BytesMut::from(&b"*500000000\r\n"[..]);
    assert!(Decoder::default().decode(&mut announced).unwrap().is_none());
}

#[test]
fn an_error_has_a_code_and_details() {
    let error = ServerError::new("WRONGTYPE Operation against a key");
    assert_eq!((error.code(), error.details()), ("WRONGTYPE", "Operation against a key"));
    assert_eq!((ServerError::new("LOADING").details(), ServerError::new("").code()), ("", ""));
}

#[test]
fn what_scripts_and_transactions_pass_on_is_found_behind_their_own_words() {
    let script = "ERR Error running script (call to f_db8d): @user_script:1: @user_script: 1: ";
    let table = [
        ("READONLY You can't write. script: db8d, on @user_script:1.".to_owned(), "READONLY", true),
        (format!("{script}-READONLY You can't write against a read only replica."), "READONLY", true),
        ("@user_script: 1: -READONLY You can't write.".to_owned(), "READONLY", true),
        ("EXECABORT Transaction discarded because of: READONLY You can't".to_owned(), "READONLY", true),
        ("EXECABORT Transaction discarded because of previous errors.".to_owned(), "EXECABORT", false),
        ("ERR OOM command not allowed script: 1d20, on @user_script:1.".to_owned(), "OOM", false),
        (format!("{script}The user executing the script can't"), "The", false),
        ("MASTERDOWN Link with MASTER is down".to_owned(), "MASTERDOWN", true),
        ("LOADING Redis is loading the dataset in memory".to_owned(), "LOADING", true),
        ("ERR value is not an integer".to_owned(), "ERR", false),
    ];
    for (line, code, of_role) in table {
        let error = ServerError::new(&*line);
        assert_eq!((error.cause().code(), error.is_of_role()), (code, of_role), "{line}");
    }
}
