//! `tbf`: a token bucket, whose tokens are nanoseconds (`sch_tbf.c`).

use netlink_emu::values::{QdiscStats, qdisc::Tbf};

use super::{Nanos, Node, Queued, Verdict, lose};

/// A token bucket in front of the queue inside.
#[derive(Debug)]
pub(super) struct TbfQueue {
    config: Tbf,
    pub(super) inner: Option<Box<Node>>,
    /// The next packet, taken out of the queue to see how long it is.
    next: Option<Queued>,
    tokens: Nanos,
    peak_tokens: Nanos,
    /// When the tokens were counted; None: the bucket is new, and full.
    counted: Option<Nanos>,
    /// When there are enough for the next packet.
    due: Option<Nanos>,
}

fn signed(number: u64) -> Nanos {
    Nanos::try_from(number).unwrap_or(Nanos::MAX)
}

impl TbfQueue {
    pub(super) fn new(config: Tbf) -> Self {
        Self {
            config,
            inner: None,
            next: None,
            tokens: signed(config.buffer),
            peak_tokens: signed(config.mtu),
            counted: None,
            due: None,
        }
    }

    pub(super) fn configure(&mut self, config: Tbf) {
        if self.config != config {
            self.config = config;
            self.tokens = signed(config.buffer);
            self.peak_tokens = signed(config.mtu);
            // Whoever waits is looked at again.
            self.due = self.next.is_some().then_some(0);
        }
    }

    pub(super) fn push(
        &mut self,
        frame: Queued,
        now: Nanos,
        copies: &mut Vec<Queued>,
        stats: &mut QdiscStats,
    ) -> Verdict {
        let Some(inner) = self.inner.as_mut().filter(|_| frame.length() <= self.config.max_size)
        else {
            lose(frame, stats);
            return Verdict::Dropped;
        };
        let verdict = inner.push(frame, now, copies);
        if verdict == Verdict::Dropped {
            stats.drops = stats.drops.saturating_add(1);
        }
        verdict
    }

    pub(super) fn pop(&mut self, now: Nanos, stats: &mut QdiscStats) -> Option<Queued> {
        self.due = None;
        if self.next.is_none() {
            self.next = self.inner.as_mut()?.pop(now);
        }
        let length = self.next.as_ref()?.length();
        let elapsed = self.counted.map_or(0, |counted| now.saturating_sub(counted));
        let buffer = signed(self.config.buffer);
        let tokens = elapsed.saturating_add(self.tokens).min(buffer);
        let tokens = tokens - signed(self.config.rate.time(length));
        let peak_tokens = self.config.peak.map_or(0, |peak| {
            let most = signed(self.config.mtu);
            let tokens = elapsed.min(buffer).saturating_add(self.peak_tokens).min(most);
            tokens - signed(peak.time(length))
        });
        if tokens < 0 || peak_tokens < 0 {
            stats.overlimits = stats.overlimits.saturating_add(1);
            self.due = Some(now.saturating_add((-tokens).max(-peak_tokens)));
            return None;
        }
        self.counted = Some(now);
        (self.tokens, self.peak_tokens) = (tokens, peak_tokens);
        self.next.take()
    }

    pub(super) fn due(&self) -> Option<Nanos> {
        match &self.next {
            Some(_) => self.due,
            None => self.inner.as_ref()?.due(),
        }
    }

    /// What waits here and not inside.
    pub(super) fn waiting(&self) -> (u64, u64) {
        self.next.as_ref().map_or((0, 0), |next| (1, next.length()))
    }

    pub(super) fn reset(&mut self) {
        self.next = None;
        self.due = None;
        self.tokens = signed(self.config.buffer);
        self.peak_tokens = signed(self.config.mtu);
    }
}
