//! The body of a request, within bounds: those that are asked for are small, and come at once.

use std::future::Future;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

/// More of a body is not read, whatever asks for it; what is asked of clients has its own bounds below it.
pub(super) const BODY_BYTES_MAX: u64 = 1 << 20;

/// A body that fails when it takes too long or is too large.
pub(super) struct Bounded {
    body: Incoming,
    left: u64,
    patience: Duration,
    /// From the moment at which somebody waits for it: it may not have been asked for before that.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    pub(super) fn new(body: Incoming, patience: Duration) -> Self {
        Bounded { body, left: BODY_BYTES_MAX, patience, deadline: None }
    }

    fn counted(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Error> {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        let too_large = || Error::new(ErrorKind::FileTooLarge, "the body of the request is too large");
        self.left = self.left.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(frame)
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| this.counted(frame.map_err(Error::other)?)));
        }
        let patience = this.patience;
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        let slow = || Error::new(ErrorKind::TimedOut, "the body of the request took too long");
        deadline.as_mut().poll(context).map(|()| Some(Err(slow())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
