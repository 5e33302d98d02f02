//! A connection on which one side speaks at a time.

use bytes::BytesMut;
use storage_core::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
};

use crate::{
    error::{closed_at_once, not_redis, unreachable},
    statements::{
        answer::{Answer, Decoder, Malformed},
        command::Command,
    },
};

/// A connection on which one side speaks at a time.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    arrived: BytesMut,
    decoder: Decoder,
    /// Tells that the server is not the one to listen to any more.
    moves: Option<watch::Receiver<()>>,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, arrived: BytesMut::new(), decoder: Decoder::default(), moves: None }
    }

    /// Nothing more is read from it from the next change on.
    pub(crate) fn until(self, moves: watch::Receiver<()>) -> Self {
        Self { moves: Some(moves), ..self }
    }

    pub(crate) async fn send(&mut self, commands: &[Command]) -> Result<()> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| command.write_to(&mut bytes));
        self.stream.write_all(&bytes).await.map_err(|error| unreachable(&error))?;
        self.stream.flush().await.map_err(|error| unreachable(&error))
    }

    /// The next answer or message. Nothing is lost where this is dropped before it has come. A message is an array, as RESP2
    /// has it.
    pub(crate) async fn next(&mut self) -> Result<Answer> {
        match self.arrival().await? {
            Answer::Push(message) => Ok(Answer::Array(message)),
            answer => Ok(answer),
        }
    }

    /// The next answer to a command.
    pub(crate) async fn reply(&mut self) -> Result<Answer> {
        loop {
            match self.arrival().await? {
                Answer::Push(_) => {}
                answer => return Ok(answer),
            }
        }
    }

    async fn arrival(&mut self) -> Result<Answer> {
        loop {
            match self.decoder.decode(&mut self.arrived) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(Malformed) => return Err(not_redis()),
            }
            let read = self.stream.read_buf(&mut self.arrived);
            let read = match &mut self.moves {
                None => read.await,
                Some(moves) => tokio::select! {
                    read = read => read,
                    Ok(()) = moves.changed() => return Err(moved()),
                },
            };
            match read {
                Ok(0) => return Err(closed_at_once()),
                Ok(_) => {}
                Err(error) => return Err(unreachable(&error)),
            }
        }
    }

    /// For who does both at once.
    pub(crate) fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }
}

fn moved() -> Error {
    Error::new(ErrorKind::Unavailable, "the service has another master now")
}
