//! The request that is being carried out: what it changes is told to listeners as its doing, and
//! with `NLM_F_ECHO` to the one who asked, too.
//!
//! Requests are carried out on the thread that took them, and so is what tells of the changes.

use std::cell::RefCell;

use super::message::{self, Header, Request};

thread_local! {
    static CAUSE: RefCell<Option<Cause>> = const { RefCell::new(None) };
}

struct Cause {
    /// The request's, with the port id of the socket that sent it.
    header: Header,
    echoed: Vec<Vec<u8>>,
}

impl Cause {
    /// Whether a change of this kind is what was asked for. A neighbour that is to go is told to
    /// have failed first, and that is the doing of the request.
    fn does(&self, kind: u16) -> bool {
        match self.header.kind {
            libc::RTM_DELNEIGH => kind == libc::RTM_NEWNEIGH,
            asked => kind == asked,
        }
    }

    fn echoes(&self) -> bool {
        i32::from(self.header.flags) & libc::NLM_F_ECHO != 0
    }
}

/// Carries out a request; returns what is to be echoed as well.
pub(super) fn during<R>(
    request: &Request<'_>,
    port: u32,
    work: impl FnOnce() -> R,
) -> (R, Vec<Vec<u8>>) {
    let header = Header { port, ..request.header };
    CAUSE.set(Some(Cause { header, echoed: Vec::new() }));
    let result = work();
    let cause = CAUSE.take();
    (result, cause.map(|cause| cause.echoed).unwrap_or_default())
}

/// Whether there is a request that wants to hear what it has changed.
pub(super) fn echoes() -> bool {
    CAUSE.with_borrow(|cause| cause.as_ref().is_some_and(Cause::echoes))
}

/// A message about a change: the request's doing if that asked for just this.
pub(super) fn notice(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    // Linux does not say who has changed a link.
    let is_link = (libc::RTM_NEWLINK..=libc::RTM_SETLINK).contains(&kind);
    CAUSE.with_borrow_mut(|cause| {
        let cause = cause.as_mut().filter(|cause| cause.does(kind) && !is_link);
        let (sequence, port) =
            cause.as_ref().map_or((0, 0), |cause| (cause.header.sequence, cause.header.port));
        let mut data = Vec::new();
        message::write(&mut data, Header { kind, flags, sequence, port }, payload);
        if let Some(cause) = cause
            && cause.echoes()
        {
            cause.echoed.push(data.clone());
        }
        data
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_as_the_doing_of_the_request_that_asked_for_it() {
        let flags = u16::try_from(libc::NLM_F_ECHO).expect("small");
        let header = Header { kind: libc::RTM_NEWROUTE, flags, sequence: 9, port: 0 };
        let request = Request { header, payload: &[], raw: &[], strict: false };
        let (told, echoed) = during(&request, 77, || {
            [libc::RTM_NEWROUTE, libc::RTM_NEWADDR].map(|kind| notice(kind, 0, &[]))
        });
        let headers = told.map(|data| {
            let (header, _) = message::split(&data).next().expect("whole");
            (header.sequence, header.port)
        });
        assert_eq!(headers, [(9, 77), (0, 0)]);
        assert_eq!(echoed.len(), 1);
        let after = notice(libc::RTM_NEWROUTE, 0, &[]);
        assert_eq!(message::split(&after).next().map(|(header, _)| header.port), Some(0));
    }
}
