//! Somebody else who reads a slot: a replication connection that takes what comes and acknowledges nothing, so that what the slot was
//! told stays as it is. (`pg_recvlogical` acknowledges when it ends, whatever it was told.)

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 196_608;
/// No message of the rig's work is larger.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The connection.
pub(super) struct Reader {
    stream: TcpStream,
}

impl Reader {
    /// Connects as superuser, whom the rig's servers trust.
    pub(super) async fn connect(port: u16, database: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut reader = Reader { stream };
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for word in ["user", "postgres", "database", database, "replication", "database"] {
            body.extend_from_slice(word.as_bytes());
            body.push(0);
        }
        body.push(0);
        reader.write(None, &body).await?;
        reader.until_ready().await?;
        Ok(reader)
    }

    /// Begins to read the slot from where it was told, unless somebody else reads it. Whether it does.
    pub(super) async fn start(&mut self, slot: &str) -> Result<bool> {
        let sql = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL 0/0 (proto_version '1', publication_names 'waldelta')\0"
        );
        self.write(Some(b'Q'), sql.as_bytes()).await?;
        self.until_ready().await
    }

    /// Takes what comes, until the connection ends.
    pub(super) async fn read_on(&mut self) {
        while self.message().await.is_ok() {}
    }

    /// Whether it streams: else it waits for the next command.
    async fn until_ready(&mut self) -> Result<bool> {
        loop {
            match self.message().await? {
                b'W' => return Ok(true),
                b'Z' => return Ok(false),
                _ => {}
            }
        }
    }

    /// The type of the next message, whose body is left unread by nobody and kept by nobody.
    async fn message(&mut self) -> Result<u8> {
        let kind = self.stream.read_u8().await?;
        let length = usize::try_from(self.stream.read_u32().await?).unwrap_or(usize::MAX);
        if !(4..MESSAGE_BYTES_MAX).contains(&length) {
            return Err(Error::new(ErrorKind::InvalidData, format!("a message of {length} bytes")));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).await?;
        Ok(kind)
    }

    async fn write(&mut self, kind: Option<u8>, body: &[u8]) -> Result<()> {
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend_from_slice(&u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message).await
    }
}
