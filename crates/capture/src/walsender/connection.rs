//! A replication connection before it streams: startup, authentication, simple queries one after the other. Blocking.
//! It knows messages; the commands of the replication protocol are in `commands`.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::backend as tag;
use postgres_protocol::message::frontend;
use waldelta_pgconn::{PINNED_SETTINGS, Target};

use super::authentication::{Authentication, Step};
use super::error::Error;
use super::frames::{FrameBuffer, Frames};
use super::server_error::ServerError;
use super::socket::Socket;

/// Offered to each read.
const READ_BYTES: usize = 256 << 10;
/// Our commands answer with one row or a few.
const ROWS_MAX: usize = 1_000;
/// CopyBothResponse, which only replication connections know.
const COPY_BOTH_RESPONSE_TAG: u8 = b'W';
/// Names mean the catalog's, as for every other connection that reads rows; and settings of the role or database that
/// would end a connection that waits on purpose are undone.
const OTHER_SETTINGS: &[(&str, &str)] = &[
    ("search_path", "pg_catalog"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// What text comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEncoding {
    /// The server converts.
    Utf8,
    /// As it is stored. A database without an encoding cannot be converted: its server checks every text instead, and
    /// ends the stream at the first that is not UTF-8, now and at every further try.
    SqlAscii,
}

impl ClientEncoding {
    /// What to ask of a database with this `server_encoding`.
    pub(crate) fn of_server(server_encoding: &str) -> Self {
        if server_encoding == "SQL_ASCII" { ClientEncoding::SqlAscii } else { ClientEncoding::Utf8 }
    }

    /// The name, as `client_encoding` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            ClientEncoding::Utf8 => "UTF8",
            ClientEncoding::SqlAscii => "SQL_ASCII",
        }
    }
}

/// One row of an answer, as text.
pub(crate) type Row = Vec<Option<String>>;

/// An open replication connection that waits for a command.
pub(crate) struct Connection {
    pub(super) socket: Socket,
    pub(super) incoming: FrameBuffer,
    frames: Frames,
    pub(super) encoding: ClientEncoding,
    backend_pid: i32,
}

/// A connection that streams: what is left of it when commands are over.
pub(crate) struct CopyBoth {
    pub(super) socket: Socket,
    pub(super) incoming: FrameBuffer,
    /// Messages that arrived right behind the one that began the streaming.
    pub(super) first: Bytes,
}

/// What a whole message was, as far as commands care.
enum Answer {
    Row(Row),
    CopyBoth,
    Error(ServerError),
    Ready,
    Other,
}

impl Connection {
    /// Connects, logs in and waits until the server is ready.
    pub(crate) fn open(
        target: &Target,
        application_name: &str,
        encoding: ClientEncoding,
    ) -> Result<Self, Error> {
        let socket = Socket::connect(target)?;
        let mut connection = Connection {
            socket,
            incoming: FrameBuffer::new(READ_BYTES),
            frames: Frames::default(),
            encoding,
            backend_pid: 0,
        };
        connection.start_up(target, application_name)?;
        Ok(connection)
    }

    /// Process id of the server's end.
    pub(crate) fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// How long an answer may take.
    pub(crate) fn set_patience(&mut self, patience: Duration) -> Result<(), Error> {
        self.socket
            .set_read_timeout(patience)
            .map_err(|source| Error::Io { what: "set the timeout of the socket", source })
    }

    /// Sends a command and collects its rows.
    pub(crate) fn query(&mut self, what: &'static str, sql: &str) -> Result<Vec<Row>, Error> {
        self.send(what, |out| frontend::query(sql, out))?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let answer = match self.next_answer(what) {
                // After a fatal error the server says nothing more.
                Err(Error::Closed) if failure.is_some() => Answer::Ready,
                answer => answer?,
            };
            match answer {
                Answer::Row(_) if rows.len() == ROWS_MAX => return Err(Error::Unexpected { what }),
                Answer::Row(row) => rows.push(row),
                Answer::Error(source) => failure = Some(Error::Refused { what, source }),
                Answer::CopyBoth => return Err(Error::Unexpected { what }),
                Answer::Ready => return failure.map_or(Ok(rows), Err),
                Answer::Other => {}
            }
        }
    }

    /// Sends a command that begins the streaming.
    pub(crate) fn copy_both(mut self, what: &'static str, sql: &str) -> Result<CopyBoth, Error> {
        self.begin_copy(what, sql)?;
        Ok(self.into_copy())
    }

    /// Sends a command that begins the streaming. Where the server refuses it, another may be tried.
    pub(super) fn begin_copy(&mut self, what: &'static str, sql: &str) -> Result<(), Error> {
        self.send(what, |out| frontend::query(sql, out))?;
        let mut failure = None;
        loop {
            let answer = match self.next_answer(what) {
                // After a fatal error the server says nothing more.
                Err(Error::Closed) if failure.is_some() => Answer::Ready,
                answer => answer?,
            };
            match answer {
                Answer::CopyBoth => return Ok(()),
                Answer::Error(source) => failure = Some(Error::Refused { what, source }),
                Answer::Ready => return Err(failure.unwrap_or(Error::Unexpected { what })),
                Answer::Row(_) => return Err(Error::Unexpected { what }),
                Answer::Other => {}
            }
        }
    }

    /// What is left of the connection once the streaming has begun.
    pub(super) fn into_copy(self) -> CopyBoth {
        CopyBoth { socket: self.socket, incoming: self.incoming, first: self.frames.into_rest() }
    }

    fn start_up(&mut self, target: &Target, application_name: &str) -> Result<(), Error> {
        let what = "log in";
        // The last of two settings of one name is the one that holds.
        let encoding = [("client_encoding", self.encoding.name())];
        let options = target.startup_options(&[PINNED_SETTINGS, OTHER_SETTINGS, &encoding].concat());
        let parameters = [
            ("user", target.user()),
            ("database", target.database()),
            ("replication", "database"),
            ("application_name", target.application_name().unwrap_or(application_name)),
            ("options", &options),
        ];
        self.send(what, |out| frontend::startup_message(parameters, out))?;
        let mut authentication = Authentication::new(target, self.socket.is_private());
        loop {
            let (kind, body) = self.next_message(what)?;
            match kind {
                tag::AUTHENTICATION_TAG => {
                    if let Step::Answer(answer) = authentication.take(&body)? {
                        self.write(what, &answer)?;
                    }
                }
                tag::BACKEND_KEY_DATA_TAG => {
                    let pid = body.first_chunk::<4>().ok_or(Error::Unexpected { what })?;
                    self.backend_pid = i32::from_be_bytes(*pid);
                }
                tag::ERROR_RESPONSE_TAG => {
                    return Err(Error::Refused { what, source: ServerError::parse(&body) });
                }
                tag::READY_FOR_QUERY_TAG => return Ok(()),
                tag::NOTICE_RESPONSE_TAG => note(&body),
                _ => {}
            }
        }
    }

    fn next_answer(&mut self, what: &'static str) -> Result<Answer, Error> {
        let (kind, body) = self.next_message(what)?;
        Ok(match kind {
            tag::DATA_ROW_TAG => Answer::Row(read_row(&body).ok_or(Error::Unexpected { what })?),
            COPY_BOTH_RESPONSE_TAG => Answer::CopyBoth,
            tag::ERROR_RESPONSE_TAG => Answer::Error(ServerError::parse(&body)),
            tag::READY_FOR_QUERY_TAG => Answer::Ready,
            tag::NOTICE_RESPONSE_TAG => {
                note(&body);
                Answer::Other
            }
            _ => Answer::Other,
        })
    }

    fn next_message(&mut self, what: &'static str) -> Result<(u8, Vec<u8>), Error> {
        loop {
            if let Some(frame) = self.frames.next_frame() {
                return Ok((frame.tag, frame.body.to_vec()));
            }
            match self.socket.read(self.incoming.spare()) {
                Ok(0) => return Err(Error::Closed),
                Ok(count) => self.incoming.note_read(count)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(source) => return Err(Error::Io { what, source }),
            }
            if let Some(bytes) = self.incoming.take_whole() {
                self.frames = Frames::new(bytes);
            }
        }
    }

    fn send(
        &mut self,
        what: &'static str,
        encode: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let mut out = BytesMut::new();
        encode(&mut out).map_err(|source| Error::Io { what, source })?;
        self.write(what, &out)
    }

    fn write(&mut self, what: &'static str, bytes: &[u8]) -> Result<(), Error> {
        self.socket
            .write_all(bytes)
            .and_then(|()| self.socket.flush())
            .map_err(|source| Error::Io { what, source })
    }
}

fn note(body: &[u8]) {
    tracing::info!(notice = %ServerError::parse(body), "the walsender says");
}

/// Columns of a DataRow; `None` when it has not the documented form.
fn read_row(body: &[u8]) -> Option<Row> {
    let (count, mut left) = body.split_first_chunk::<2>()?;
    let mut row = Row::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, rest) = left.split_first_chunk::<4>()?;
        left = rest;
        row.push(match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (value, rest) = left.split_at_checked(length)?;
                left = rest;
                Some(String::from_utf8_lossy(value).into_owned())
            }
            Err(_) => None,
        });
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rows_and_refuses_what_is_none() {
        assert_eq!(read_row(b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff"), Some(vec![Some("ab".into()), None]));
        assert_eq!(read_row(b"\0\0"), Some(vec![]));
        for bad in [&b""[..], b"\0", b"\0\x01", b"\0\x01\0\0\0\x05ab", b"\xff\xff\0\0"] {
            assert_eq!(read_row(bad), None, "{bad:?}");
        }
    }
}
