//! The first words on a connection: who asks, in which protocol, and what the server is.

use std::sync::atomic::{AtomicBool, Ordering};

use storage_core::{Error, ErrorKind, Result};

use super::wire::Wire;
use crate::{
    options::Protocol,
    statements::{
        answer::{Answer, ServerError},
        command::{Command, cmd},
        reply::{checked, text},
    },
};

/// Who asks.
pub(crate) struct Login {
    username: Option<String>,
    password: Option<String>,
    database: u32,
    name: String,
    /// Whether RESP2 is spoken from the start: it is asked for, or a server has refused RESP3.
    resp2: AtomicBool,
}

/// What a server says about itself, where it has HELLO.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) mode: Option<String>,
    pub(crate) role: Option<String>,
}

impl Login {
    pub(crate) fn new(
        (username, password): (Option<&String>, Option<&String>),
        database: u32,
        name: &str,
        protocol: Protocol,
    ) -> Self {
        Self {
            username: username.cloned(),
            password: password.cloned(),
            database,
            name: name.to_owned(),
            resp2: AtomicBool::new(protocol == Protocol::Resp2),
        }
    }

    /// Says who asks, and waits for the server's word: a server that is full or protected says so now.
    pub(crate) async fn greet(&self, wire: &mut Wire) -> Result<Facts> {
        // Relaxed: where it is late, the server is asked once more.
        if !self.resp2.load(Ordering::Relaxed) {
            if let Some(facts) = self.hello(wire).await? {
                return Ok(facts);
            }
            self.resp2.store(true, Ordering::Relaxed);
        }
        self.greet_in_resp2(wire).await
    }

    /// `None` where the server does not know it.
    async fn hello(&self, wire: &mut Wire) -> Result<Option<Facts>> {
        let mut hello = cmd("HELLO").number(3);
        if let Some(password) = &self.password {
            let user = self.username.as_deref().unwrap_or("default");
            hello = hello.arg("AUTH").arg(user).arg(password);
        }
        let select = self.select();
        // In one round trip: the server answers each of them, also after it has refused one.
        let commands: Vec<Command> =
            [hello.arg("SETNAME").arg(&self.name)].into_iter().chain(select.clone()).collect();
        wire.send(&commands).await?;
        let answer = wire.reply().await?;
        if let Answer::Error(error) = &answer
            && is_unknown(error)
        {
            if select.is_some() {
                // In RESP2 it is asked again.
                wire.reply().await?;
            }
            return Ok(None);
        }
        let facts = Facts::read(checked(answer)?);
        if select.is_some() {
            checked(wire.reply().await?)?;
        }
        Ok(Some(facts))
    }

    async fn greet_in_resp2(&self, wire: &mut Wire) -> Result<Facts> {
        let auth =
            self.password.as_ref().map(|password| cmd("AUTH").args(self.username.as_ref()).arg(password));
        let needed: Vec<Command> = auth.into_iter().chain(self.select()).chain([cmd("PING")]).collect();
        wire.send(&needed).await?;
        for _ in &needed {
            checked(wire.reply().await?).or_else(|error| unready(&error))?;
        }
        // Good to know, and good for people to see: where it is refused, there is none.
        wire.send(&[cmd("CLIENT").arg("SETNAME").arg(&self.name), cmd("ROLE")]).await?;
        wire.reply().await?;
        let role = role_of(wire.reply().await?);
        let mode = role.clone().filter(|role| role == "sentinel");
        Ok(Facts { mode, role })
    }

    fn select(&self) -> Option<Command> {
        (self.database > 0).then(|| cmd("SELECT").number(self.database))
    }
}

/// PING is refused where the server reads its data or has lost its master; so will be the requests, which know what to do then.
fn unready(error: &Error) -> Result<Answer> {
    let codes = ["LOADING", "MASTERDOWN"];
    match codes.iter().any(|code| error.message().ends_with(code)) {
        true => Ok(Answer::Nil),
        false => Err(error.clone()),
    }
}

fn is_unknown(error: &ServerError) -> bool {
    match error.code() {
        "NOPROTO" => true,
        // Unknown, or known with other arguments. AUTH then speaks for itself.
        "ERR" => !error.details().contains("max number of clients"),
        _ => false,
    }
}

impl Facts {
    fn read(answer: Answer) -> Self {
        let Answer::Array(parts) = answer else { return Self::default() };
        let (mut facts, mut parts) = (Self::default(), parts.into_iter());
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            let Ok(name) = text(name) else { continue };
            match name.as_str() {
                "mode" => facts.mode = text(value).ok(),
                "role" => facts.role = text(value).ok(),
                _ => {}
            }
        }
        facts
    }

    /// Whether it is a master; an error where it does not tell.
    pub(crate) fn is_master(&self) -> Result<bool> {
        let role = self.role.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::Unauthorized, "the server does not tell whether it is the master")
                .with_hint("grant ROLE to the user, or let RESP3 be spoken")
        });
        role.map(|role| role == "master")
    }
}

/// The first word of the answer to ROLE.
fn role_of(answer: Answer) -> Option<String> {
    let Answer::Array(parts) = answer else { return None };
    text(parts.into_iter().next()?).ok()
}
