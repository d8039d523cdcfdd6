//! Queueing disciplines and classes as messages.

use netlink_packet_core::{DefaultNla, Emitable};

use super::{
    TICK,
    options::{netem_attribute, tbf_attribute},
};
use crate::{
    netlink::Body,
    values::{
        Discipline, Handle, Qdisc, QdiscStats,
        qdisc::{Chance, LossModel, Netem, NetemRate, RateSpec, Tbf},
    },
};

/// `TCA_HW_OFFLOAD`.
const HW_OFFLOAD: u16 = 12;
/// `TCA_STATS_BASIC`, `TCA_STATS_QUEUE`, `TCA_STATS_PKT64`.
const BASIC: u16 = 1;
const QUEUE: u16 = 3;
const PACKETS64: u16 = 8;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// How often a discipline of an interface is referred to, as Linux counts.
const ROOT_REFERENCES: u32 = 2;
/// The options of `pfifo_fast`: 3 bands and their priority map (`struct tc_prio_qopt`).
const PRIORITY_MAP: [u8; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
/// `TC_LINKLAYER_ETHERNET`.
const ETHERNET: u8 = 1;

/// Encodes a discipline and what it has done.
pub(in super::super) fn encode(kind: u16, qdisc: &Qdisc, stats: &QdiscStats) -> Body {
    let references = if qdisc.parent == Handle::ROOT { ROOT_REFERENCES } else { 1 };
    let mut attributes = vec![DefaultNla::new(libc::TCA_KIND, name(qdisc))];
    attributes.extend(options(&qdisc.discipline));
    attributes.push(DefaultNla::new(HW_OFFLOAD, vec![0]));
    attributes.push(statistics(stats));
    attributes.push(DefaultNla::new(libc::TCA_STATS, old_statistics(stats)));
    let numbers = [qdisc.interface.0, qdisc.handle.0, qdisc.parent.0, references];
    message(kind, numbers, &attributes)
}

/// Encodes the class of a shaper; `leaf` is what is in it.
pub(super) fn class(of: &Qdisc, leaf: Handle) -> Body {
    let attributes = [
        DefaultNla::new(libc::TCA_KIND, name(of)),
        statistics(&QdiscStats::default()),
        DefaultNla::new(libc::TCA_STATS, old_statistics(&QdiscStats::default())),
    ];
    let numbers = [of.interface.0, of.handle.0 | 1, of.handle.0, leaf.0];
    message(libc::RTM_NEWTCLASS, numbers, &attributes)
}

/// Writes `struct tcmsg` (interface, handle, parent, info) and attributes.
fn message(kind: u16, numbers: [u32; 4], attributes: &[DefaultNla]) -> Body {
    let mut payload = vec![0; 4];
    numbers.iter().for_each(|number| payload.extend_from_slice(&number.to_ne_bytes()));
    payload.extend_from_slice(&list(attributes));
    Body { kind, payload }
}

fn list(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

fn name(qdisc: &Qdisc) -> Vec<u8> {
    let mut name = qdisc.discipline.kind().as_bytes().to_vec();
    name.push(0);
    name
}

/// Packs numbers one behind the other, as the fields of a C structure.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    fn i32(mut self, number: i32) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    fn i64(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    fn nla(self, kind: u16) -> DefaultNla {
        DefaultNla::new(kind, self.0)
    }
}

fn statistics(stats: &QdiscStats) -> DefaultNla {
    let packets = low(stats.packets);
    let basic = Fields::default().u64(stats.bytes).u32(packets).u32(0);
    let queue = [stats.queued, stats.backlog, stats.drops, stats.requeues, stats.overlimits];
    let queue = queue.into_iter().fold(Fields::default(), Fields::u32);
    let mut attributes = vec![basic.nla(BASIC)];
    if u64::from(packets) != stats.packets {
        attributes.push(Fields::default().u64(stats.packets).nla(PACKETS64));
    }
    attributes.push(queue.nla(QUEUE));
    DefaultNla::new(libc::TCA_STATS2 | NESTED, list(&attributes))
}

/// `struct tc_stats`.
fn old_statistics(stats: &QdiscStats) -> Vec<u8> {
    let fields = Fields::default().u64(stats.bytes).u32(low(stats.packets)).u32(stats.drops);
    // Between them the rates that no estimator counts.
    let rest = [stats.overlimits, 0, 0, stats.queued, stats.backlog, 0];
    rest.into_iter().fold(fields, Fields::u32).0
}

/// The old counters wrap.
fn low(counter: u64) -> u32 {
    u32::try_from(counter & u64::from(u32::MAX)).unwrap_or_default()
}

fn options(discipline: &Discipline) -> Option<DefaultNla> {
    let bytes = match discipline {
        Discipline::Noqueue => return None,
        Discipline::Pfifo(limit) | Discipline::Bfifo(limit) => limit.to_ne_bytes().to_vec(),
        Discipline::PfifoFast => [&3i32.to_ne_bytes()[..], &PRIORITY_MAP].concat(),
        Discipline::Netem(netem) => netem_options(netem),
        Discipline::Tbf(tbf) => tbf_options(tbf),
    };
    Some(DefaultNla::new(libc::TCA_OPTIONS, bytes))
}

/// Nanoseconds as ticks; more than fit are the most that fit.
fn ticks(nanos: u64) -> u32 {
    u32::try_from(nanos / TICK).unwrap_or(u32::MAX)
}

fn short(rate: u64) -> u32 {
    u32::try_from(rate).unwrap_or(u32::MAX)
}

fn tbf_options(tbf: &Tbf) -> Vec<u8> {
    let mut parms = rate_spec(&tbf.rate);
    parms.extend(tbf.peak.as_ref().map_or_else(|| vec![0; 12], rate_spec));
    for number in [tbf.limit, ticks(tbf.buffer), ticks(tbf.mtu)] {
        parms.extend_from_slice(&number.to_ne_bytes());
    }
    let mut attributes = vec![DefaultNla::new(tbf_attribute::PARMS, parms)];
    let rates = [(tbf_attribute::RATE64, Some(tbf.rate)), (tbf_attribute::PRATE64, tbf.peak)];
    for (kind, spec) in rates {
        if let Some(spec) = spec.filter(|spec| spec.rate > u64::from(u32::MAX)) {
            attributes.push(Fields::default().u64(spec.rate).nla(kind));
        }
    }
    list(&attributes)
}

fn rate_spec(spec: &RateSpec) -> Vec<u8> {
    let layer = if spec.link_layer == 0 { ETHERNET } else { spec.link_layer };
    let mut bytes = vec![0, layer];
    bytes.extend_from_slice(&spec.overhead.to_ne_bytes());
    bytes.extend_from_slice(&0i16.to_ne_bytes());
    bytes.extend_from_slice(&spec.mpu.to_ne_bytes());
    bytes.extend_from_slice(&short(spec.rate).to_ne_bytes());
    bytes
}

fn netem_options(netem: &Netem) -> Vec<u8> {
    use netem_attribute as a;
    let time = |nanos: i64| ticks(u64::try_from(nanos).unwrap_or(0));
    let numbers = [
        time(netem.latency),
        netem.limit,
        netem.loss.probability,
        netem.gap,
        netem.duplicate.probability,
        time(netem.jitter),
    ];
    let mut bytes = numbers.into_iter().fold(Fields::default(), Fields::u32).0;
    let correlations =
        [netem.delay_correlation, netem.loss.correlation, netem.duplicate.correlation];
    let mut attributes = vec![
        Fields::default().i64(netem.latency).nla(a::LATENCY64),
        Fields::default().i64(netem.jitter).nla(a::JITTER64),
        correlations.into_iter().fold(Fields::default(), Fields::u32).nla(a::CORR),
        chance(a::REORDER, netem.reorder),
        chance(a::CORRUPT, netem.corrupt),
    ];
    attributes.extend(rate(&netem.rate));
    if netem.ecn {
        attributes.push(Fields::default().u32(1).nla(a::ECN));
    }
    attributes.extend(loss_model(netem.loss_model));
    if let Some(slot) = &netem.slot {
        let (delay, distributed) = (slot.delay, slot.distributed);
        let fields = Fields::default().i64(delay.0).i64(delay.1);
        let fields = fields.i32(slot.max_packets).i32(slot.max_bytes);
        attributes.push(fields.i64(distributed.0).i64(distributed.1).nla(a::SLOT));
    }
    if let Some(seed) = netem.seed {
        attributes.push(Fields::default().u64(seed).nla(a::SEED));
    }
    bytes.extend(list(&attributes));
    bytes
}

fn chance(kind: u16, chance: Chance) -> DefaultNla {
    Fields::default().u32(chance.probability).u32(chance.correlation).nla(kind)
}

fn rate(rate: &NetemRate) -> Vec<DefaultNla> {
    let mut found = Vec::new();
    if rate.rate > u64::from(u32::MAX) {
        found.push(Fields::default().u64(rate.rate).nla(netem_attribute::RATE64));
    }
    let fields = Fields::default().u32(short(rate.rate)).i32(rate.packet_overhead);
    let fields = fields.u32(rate.cell_size).i32(rate.cell_overhead);
    found.push(fields.nla(netem_attribute::RATE));
    found
}

fn loss_model(model: LossModel) -> Option<DefaultNla> {
    let (kind, numbers) = match &model {
        LossModel::Random => return None,
        LossModel::Markov(numbers) => (netem_attribute::MARKOV, &numbers[..]),
        LossModel::Gilbert(numbers) => (netem_attribute::GILBERT, &numbers[..]),
    };
    let inner = numbers.iter().copied().fold(Fields::default(), Fields::u32).nla(kind);
    Some(DefaultNla::new(netem_attribute::LOSS, list(&[inner])))
}
