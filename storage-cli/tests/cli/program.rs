//! Running the program.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_storage");

/// A folder where the program runs.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program with nothing of the tests' own environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let programs = Path::new(PROGRAM).parent().unwrap().display();
        command.current_dir(self.path()).env_clear().env("PATH", format!("{programs}:/usr/bin:/bin"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, &[], b"")
    }

    pub(crate) fn run_in(&self, variables: &[(&str, &str)], args: &[&str]) -> Done {
        self.run_with(args, variables, b"")
    }

    pub(crate) fn pipe(&self, input: impl AsRef<[u8]>, args: &[&str]) -> Done {
        self.run_with(args, &[], input.as_ref())
    }

    pub(crate) fn run_with(&self, args: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Done {
        let mut command = self.command(PROGRAM);
        command.args(args).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        // The program may leave before it has read everything.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Done::new(args, &output)
    }

    /// A SQLite file that nobody else can use for as long as the answer lives.
    pub(crate) fn locked(&self, name: &str) -> rusqlite::Connection {
        let file = rusqlite::Connection::open(self.path().join(name)).unwrap();
        file.execute_batch("CREATE TABLE other (n); BEGIN EXCLUSIVE").unwrap();
        file
    }

    /// Runs what must succeed.
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{args:?}: {}", done.out);
        done.out
    }
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn new(args: &[&str], output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the output is UTF-8");
        let code = output.status.code().unwrap_or_else(|| panic!("{args:?} died: {:?}", output.status));
        let done = Self { code, out: text(&output.stdout), err: text(&output.stderr) };
        assert!(!done.err.contains("panicked"), "{args:?}: {}", done.err);
        done
    }

    /// The one document on stdout.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "one line: {}", self.out);
        serde_json::from_str(&self.out).unwrap()
    }

    /// The error on stderr.
    pub(crate) fn error(&self) -> Value {
        assert_eq!(self.err.lines().count(), 1, "one line: {}", self.err);
        serde_json::from_str::<Value>(&self.err).unwrap()["error"].take()
    }
}

pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
