//! CUBIC: the window grows with the cube of the time since the last loss (RFC 9438).

use smoltcp::time::{Duration, Instant};

use super::{Ack, by_loss::Law};

/// The scale of growth, in segments per second cubed.
const C: f64 = 0.4;
/// What is left of the window after a loss.
const BETA: f64 = 0.7;
/// Reno's growth with that reduction.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The state.
#[derive(Debug, Default)]
pub(super) struct Cubic {
    /// The window before the last loss, in bytes.
    most: f64,
    /// Since the window grows by the cube.
    epoch: Option<Epoch>,
    /// `most` before the last loss.
    before: f64,
}

#[derive(Debug, Clone, Copy)]
struct Epoch {
    since: Instant,
    /// Seconds until the window is as large as before the loss.
    plateau: f64,
    /// The window that the curve is flat at.
    origin: f64,
    /// What Reno would have.
    reno: f64,
    /// The fraction of bytes that the window has still to grow.
    credit: f64,
}

impl Cubic {
    fn begin(&self, size: f64, ack: &Ack) -> Epoch {
        let origin = self.most.max(size);
        let plateau = ((origin - size) / ack.mss as f64 / C).cbrt();
        Epoch { since: ack.now, plateau, origin, reno: size, credit: 0.0 }
    }
}

impl Law for Cubic {
    fn grow(&mut self, size: u64, ack: &Ack, delivered: u64) -> u64 {
        let (mss, size) = (ack.mss as f64, size as f64);
        let mut epoch = self.epoch.unwrap_or_else(|| self.begin(size, ack));
        let curve = |time: f64| epoch.origin + C * (time - epoch.plateau).powi(3) * mss;
        let time = seconds(ack.now - epoch.since);
        let aim = curve(time + seconds(ack.smooth)).clamp(size, 1.5 * size);
        let share = delivered as f64 / size;
        let alpha = if epoch.reno >= self.most { 1.0 } else { ALPHA };
        let friendly = curve(time) < epoch.reno;
        epoch.reno += alpha * share * mss;
        epoch.credit += if friendly { (epoch.reno - size).max(0.0) } else { (aim - size) * share };
        let whole = epoch.credit.floor();
        epoch.credit -= whole;
        self.epoch = Some(epoch);
        bytes(size + whole)
    }

    fn shrink(&mut self, size: u64) -> u64 {
        let size = size as f64;
        self.before = self.most;
        // A window that shrinks leaves room for others (fast convergence).
        self.most = if size < self.most { size * (1.0 + BETA) / 2.0 } else { size };
        self.epoch = None;
        bytes(size * BETA)
    }

    fn undo(&mut self) {
        self.most = self.before;
        self.epoch = None;
    }

    fn rest(&mut self) {
        self.epoch = None;
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.total_micros() as f64 / 1e6
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "windows are neither negative nor large"
)]
fn bytes(size: f64) -> u64 {
    size as u64
}
