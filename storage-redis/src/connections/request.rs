//! What is asked of a server in one piece, and which answers it has.

use crate::statements::{answer::Answer, command::Command};

/// What is asked of the server.
#[derive(Clone)]
pub(crate) enum Request {
    One(Command),
    /// Answered by an array with an answer, or an error, for each command.
    Each(Vec<Command>),
    /// MULTI, the commands, EXEC.
    Transaction(Vec<Command>),
}

impl Request {
    /// About how many bytes it carries.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(command) => command.len(),
            Self::Each(commands) | Self::Transaction(commands) => commands.iter().map(Command::len).sum(),
        }
    }

    /// Writes it, and says how its answers are read.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) -> Expected {
        match self {
            Self::One(command) => {
                command.write_to(out);
                Expected::One
            }
            Self::Each(commands) => {
                commands.iter().for_each(|command| command.write_to(out));
                Expected::Each { count: commands.len(), values: Vec::with_capacity(commands.len()) }
            }
            Self::Transaction(commands) => {
                out.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n");
                commands.iter().for_each(|command| command.write_to(out));
                out.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
                Expected::Last { skip: commands.len() + 1, refused: None, lone: false }
            }
        }
    }
}

/// Which answers a request has.
pub(super) enum Expected {
    One,
    Each {
        count: usize,
        values: Vec<Answer>,
    },
    /// That of EXEC; before it come those of MULTI and of queueing, of which a refusal says more.
    Last {
        skip: usize,
        refused: Option<Answer>,
        /// MULTI was refused, and a command was not: it was done alone.
        lone: bool,
    },
}

/// What a request has so far.
pub(super) enum Progress {
    Whole(Answer),
    More,
    /// Some of it was done, and some was not.
    Torn,
}

impl Expected {
    /// Takes one answer of the server.
    pub(super) fn take(&mut self, answer: Answer) -> Progress {
        match self {
            Self::One => return Progress::Whole(answer),
            Self::Each { count, values } => {
                values.push(answer);
                if values.len() == *count {
                    return Progress::Whole(Answer::Array(std::mem::take(values)));
                }
            }
            Self::Last { skip: 0, lone: true, .. } => return Progress::Torn,
            Self::Last { skip: 0, refused, .. } => return Progress::Whole(refused.take().unwrap_or(answer)),
            Self::Last { skip, refused, lone } => {
                *skip -= 1;
                match answer {
                    Answer::Error(_) => drop(refused.get_or_insert(answer)),
                    Answer::Status(status) if status == "QUEUED" || status == "OK" && refused.is_none() => {}
                    _ => *lone = true,
                }
            }
        }
        Progress::More
    }
}
