//! Commands, in the form in which they are sent.

use smallvec::SmallVec;

/// A command as the server takes it: an array of bulk strings.
#[derive(Clone)]
pub(crate) struct Command {
    arguments: usize,
    /// The bulk strings; what stands before them is known once there are all. Small ones are part of the command: a buffer
    /// of their own would be allocated by one thread and freed by another, which costs more than the copy.
    packed: SmallVec<[u8; 96]>,
}

/// A command without arguments yet.
pub(crate) fn cmd(name: &str) -> Command {
    with_capacity(name, 0)
}

/// [`cmd`] with room for so many bytes of arguments.
pub(crate) fn with_capacity(name: &str, bytes: usize) -> Command {
    Command { arguments: 0, packed: SmallVec::with_capacity(name.len() + bytes + 48) }.arg(name)
}

impl Command {
    #[must_use]
    pub(crate) fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        let argument = argument.as_ref();
        self.arguments += 1;
        let mut digits = itoa::Buffer::new();
        let length = digits.format(argument.len());
        for part in [b"$", length.as_bytes(), b"\r\n", argument, b"\r\n"] {
            self.packed.extend_from_slice(part);
        }
        self
    }

    #[must_use]
    pub(crate) fn args<A: AsRef<[u8]>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// An integer.
    #[must_use]
    pub(crate) fn number(self, number: impl itoa::Integer) -> Self {
        self.arg(itoa::Buffer::new().format(number))
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.push(b'*');
        out.extend_from_slice(itoa::Buffer::new().format(self.arguments).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.packed);
    }

    /// About how many bytes it carries.
    pub(crate) fn len(&self) -> usize {
        self.packed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let command = cmd("SET").arg("key").arg([0, 255]).args(["", "é"]).number(-7);
        let mut out = Vec::new();
        command.write_to(&mut out);
        let expected =
            b"*6\r\n$3\r\nSET\r\n$3\r\nkey\r\n$2\r\n\x00\xff\r\n$0\r\n\r\n$2\r\n\xc3\xa9\r\n$2\r\n-7\r\n";
        assert_eq!(out, expected);
    }
}
