//! The options of queueing disciplines in requests (`TCA_OPTIONS`).

use std::sync::Arc;

use umvu_abi::Errno;

use super::TICK;
use crate::{
    netlink::attributes::{Attributes, field},
    values::qdisc::{
        Chance, LossModel, NetemOptions, NetemRate, NetemSlot, QdiscOptions, RateSpec, TbfOptions,
    },
};

/// `TCA_TBF_*`.
pub(super) mod tbf_attribute {
    pub(in super::super) const PARMS: u16 = 1;
    pub(in super::super) const RATE64: u16 = 4;
    pub(in super::super) const PRATE64: u16 = 5;
    pub(in super::super) const BURST: u16 = 6;
    pub(in super::super) const PBURST: u16 = 7;
}

/// `TCA_NETEM_*`.
pub(super) mod netem_attribute {
    pub(in super::super) const CORR: u16 = 1;
    pub(in super::super) const DELAY_DIST: u16 = 2;
    pub(in super::super) const REORDER: u16 = 3;
    pub(in super::super) const CORRUPT: u16 = 4;
    pub(in super::super) const LOSS: u16 = 5;
    pub(in super::super) const RATE: u16 = 6;
    pub(in super::super) const ECN: u16 = 7;
    pub(in super::super) const RATE64: u16 = 8;
    pub(in super::super) const LATENCY64: u16 = 10;
    pub(in super::super) const JITTER64: u16 = 11;
    pub(in super::super) const SLOT: u16 = 12;
    pub(in super::super) const SLOT_DIST: u16 = 13;
    pub(in super::super) const SEED: u16 = 14;
    /// `NETEM_LOSS_GI`, `NETEM_LOSS_GE`.
    pub(in super::super) const MARKOV: u16 = 1;
    pub(in super::super) const GILBERT: u16 = 2;
}

/// The size of `struct tc_netem_qopt`.
pub(super) const NETEM_PARMS: usize = 24;
/// The size of `struct tc_tbf_qopt`, and of the `struct tc_ratespec` in it.
const TBF_PARMS: usize = 36;
const RATE_SPEC: usize = 12;
/// `NETEM_DIST_MAX`.
const LONGEST_TABLE: usize = 16_384;

/// Reads the options of a kind; those of unknown kinds are nobody's. Errors: `EINVAL`.
pub(super) fn read(kind: &str, bytes: &[u8]) -> Result<QdiscOptions, Errno> {
    Ok(match kind {
        "pfifo" | "bfifo" => {
            let limit = bytes.first_chunk::<4>().ok_or(Errno::EINVAL)?;
            QdiscOptions::Limit(u32::from_ne_bytes(*limit))
        }
        "netem" => QdiscOptions::Netem(Box::new(netem(bytes)?)),
        "tbf" => QdiscOptions::Tbf(tbf(bytes)?),
        _ => QdiscOptions::Malformed,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(field(bytes, at))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_ne_bytes(field(bytes, at))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_ne_bytes(field(bytes, at))
}

fn u64_of(attributes: &Attributes<'_>, kind: u16) -> Result<Option<u64>, Errno> {
    let number = |bytes: &[u8]| bytes.first_chunk::<8>().copied().map(u64::from_ne_bytes);
    attributes.bytes(kind).map(|bytes| number(bytes).ok_or(Errno::EINVAL)).transpose()
}

/// A structure of at least so many bytes.
fn sized<'a>(
    attributes: &Attributes<'a>,
    kind: u16,
    size: usize,
) -> Result<Option<&'a [u8]>, Errno> {
    let bytes = attributes.bytes(kind);
    if bytes.is_some_and(|bytes| bytes.len() < size) { Err(Errno::EINVAL) } else { Ok(bytes) }
}

fn tbf(bytes: &[u8]) -> Result<TbfOptions, Errno> {
    let attributes = Attributes::parse(bytes);
    let parms = sized(&attributes, tbf_attribute::PARMS, TBF_PARMS)?.ok_or(Errno::EINVAL)?;
    let rate = rate_spec(parms, u64_of(&attributes, tbf_attribute::RATE64)?);
    let has_peak = u32_at(parms, RATE_SPEC + 8) != 0;
    let fast = u64_of(&attributes, tbf_attribute::PRATE64)?;
    Ok(TbfOptions {
        rate,
        peak: has_peak.then(|| rate_spec(&parms[RATE_SPEC..], fast)),
        limit: u32_at(parms, 24),
        buffer: u64::from(u32_at(parms, 28)) * TICK,
        mtu: u64::from(u32_at(parms, 32)) * TICK,
        burst: attributes.u32(tbf_attribute::BURST)?,
        peak_burst: attributes.u32(tbf_attribute::PBURST)?,
    })
}

fn rate_spec(bytes: &[u8], long: Option<u64>) -> RateSpec {
    let [cell_log, link_layer] = field(bytes, 0);
    RateSpec {
        rate: u64::from(u32_at(bytes, 8)).max(long.unwrap_or(0)),
        overhead: u16::from_ne_bytes(field(bytes, 2)),
        mpu: u16::from_ne_bytes(field(bytes, 6)),
        cell_log,
        cell_align: i16::from_ne_bytes(field(bytes, 4)),
        // `TC_LINKLAYER_MASK`.
        link_layer: link_layer & 0xf,
    }
}

fn netem(bytes: &[u8]) -> Result<NetemOptions, Errno> {
    use netem_attribute as a;
    if bytes.len() < NETEM_PARMS {
        return Err(Errno::EINVAL);
    }
    let attributes = Attributes::after(bytes, NETEM_PARMS);
    let ticks = |at| i64::from(u32_at(bytes, at)) * i64::from(64);
    let long = |kind, short| {
        let given = sized(&attributes, kind, 8)?;
        Ok::<i64, Errno>(given.map_or(short, |bytes| i64_at(bytes, 0)))
    };
    let jitter = long(a::JITTER64, ticks(20))?;
    let correlations = sized(&attributes, a::CORR, 12)?;
    Ok(NetemOptions {
        latency: long(a::LATENCY64, ticks(0))?.max(0),
        jitter: jitter.saturating_abs().min(i64::from(i32::MAX)),
        limit: u32_at(bytes, 4),
        gap: u32_at(bytes, 12),
        loss: u32_at(bytes, 8),
        duplicate: u32_at(bytes, 16),
        correlations: correlations.map(|c| [u32_at(c, 0), u32_at(c, 4), u32_at(c, 8)]),
        loss_model: loss_model(&attributes)?,
        ecn: attributes.u32(a::ECN)?.map(|ecn| ecn != 0),
        reorder: chance(&attributes, a::REORDER)?,
        corrupt: chance(&attributes, a::CORRUPT)?,
        rate: rate(&attributes)?,
        slot: sized(&attributes, a::SLOT, 40)?.map(slot),
        distribution: table(&attributes, a::DELAY_DIST)?,
        slot_distribution: table(&attributes, a::SLOT_DIST)?,
        seed: u64_of(&attributes, a::SEED)?,
    })
}

fn chance(attributes: &Attributes<'_>, kind: u16) -> Result<Option<Chance>, Errno> {
    let bytes = sized(attributes, kind, 8)?;
    Ok(bytes.map(|b| Chance { probability: u32_at(b, 0), correlation: u32_at(b, 4) }))
}

fn rate(attributes: &Attributes<'_>) -> Result<Option<NetemRate>, Errno> {
    let Some(bytes) = sized(attributes, netem_attribute::RATE, 16)? else { return Ok(None) };
    let long = u64_of(attributes, netem_attribute::RATE64)?;
    Ok(Some(NetemRate {
        rate: u64::from(u32_at(bytes, 0)).max(long.unwrap_or(0)),
        packet_overhead: i32_at(bytes, 4),
        cell_size: u32_at(bytes, 8),
        cell_overhead: i32_at(bytes, 12),
    }))
}

fn slot(bytes: &[u8]) -> NetemSlot {
    NetemSlot {
        delay: (i64_at(bytes, 0), i64_at(bytes, 8)),
        max_packets: i32_at(bytes, 16),
        max_bytes: i32_at(bytes, 20),
        distributed: (i64_at(bytes, 24), i64_at(bytes, 32)),
    }
}

fn loss_model(attributes: &Attributes<'_>) -> Result<LossModel, Errno> {
    use netem_attribute::{GILBERT, LOSS, MARKOV};
    let Some(model) = attributes.nested(LOSS) else { return Ok(LossModel::Random) };
    let numbers = |bytes: &[u8], count: usize| -> Vec<u32> {
        (0..count).map(|at| u32_at(bytes, at * 4)).collect()
    };
    if let Some(bytes) = sized(&model, MARKOV, 20)? {
        let p = numbers(bytes, 5).try_into().map_err(|_| Errno::EINVAL)?;
        return Ok(LossModel::Markov(p));
    }
    let bytes = sized(&model, GILBERT, 16)?.ok_or(Errno::EINVAL)?;
    Ok(LossModel::Gilbert(numbers(bytes, 4).try_into().map_err(|_| Errno::EINVAL)?))
}

fn table(attributes: &Attributes<'_>, kind: u16) -> Result<Option<Arc<[i16]>>, Errno> {
    let Some(bytes) = attributes.bytes(kind) else { return Ok(None) };
    let numbers: Arc<[i16]> =
        bytes.chunks_exact(2).map(|pair| i16::from_ne_bytes([pair[0], pair[1]])).collect();
    if numbers.is_empty() || numbers.len() > LONGEST_TABLE {
        return Err(Errno::EINVAL);
    }
    Ok(Some(numbers))
}
