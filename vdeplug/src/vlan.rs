//! `vlan://`: some VLANs of a network, IEEE 802.1Q and 802.1ad.
//!
//! `vlan://N[untag=M/tag=LIST/trunk/qinq]{VNL}` tags the frames that are sent and untags those that
//! are received, so that the network inside needs no switch that knows VLANs. N is the VLAN whose
//! frames are untagged on this side; 0, or none, is no VLAN. Parameters may also follow as
//! `/key=value`, as the C library reads them. The module's names and rules are those of
//! libvdeplug's; unlike there, a VLAN that is renumbered keeps the priority of its frames.

use std::sync::Arc;

use crate::{
    error::OpenError,
    filter::{Codec, Filter, Verdict},
    frame::MIN_FRAME,
    transport::Transport,
    vnl::{Resolved, Vnl, VnlError},
};

const PARAMETERS: [&str; 9] = ["untag", "u", "tag", "t", "trunk", "x", "qinq", "q", "ad"];
/// Tag protocol identifiers.
const CUSTOMER: [u8; 2] = [0x81, 0x00];
const SERVICE: [u8; 2] = [0x88, 0xa8];
/// The place of the type, or of a tag, behind two addresses; and a tag's length.
const TYPE: usize = 12;
const TAG: usize = 4;
/// The part of a tag's second half that is the VLAN.
const ID: u16 = 0x0fff;

/// Opens `vlan://N[...]{VNL}`.
pub(crate) fn open(
    vnl: &Vnl,
    inner: impl FnOnce(&Vnl) -> Result<Arc<dyn Transport>, OpenError>,
) -> Result<Arc<dyn Transport>, OpenError> {
    let tagging = Tagging::of(vnl)?;
    let nested = vnl.nested.as_deref().ok_or_else(|| OpenError::Refused {
        place: vnl.to_string(),
        problem: "needs a network in braces, for example vlan://4{switch:///tmp/sw}".to_owned(),
        errno: libc::EINVAL,
    })?;
    Ok(Arc::new(Filter::new(inner(nested)?, tagging)))
}

/// Which VLANs are seen here, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tagging {
    protocol: [u8; 2],
    /// The VLAN that is untagged here; 0: none.
    untagged: u16,
    /// The VLAN here of what is untagged on the network; 0: none.
    native: u16,
    /// VLANs here and on the network.
    tagged: Vec<(u16, u16)>,
    /// Whether all others pass.
    trunk: bool,
}

impl Tagging {
    pub(crate) fn of(vnl: &Vnl) -> Result<Self, VnlError> {
        let parameters = vnl.parameters.resolve("vlan", &PARAMETERS)?;
        let any = |names: [&str; 2]| names.into_iter().find_map(|name| parameters.get(name));
        let has = |name| parameters.get(name).is_some();
        let untagged = match vnl.path.as_str() {
            "" => 0,
            text => number(text).ok_or_else(|| parameters.bad_value("VLAN", text, EXPECTED))?,
        };
        let native = any(["untag", "u"]).map_or(Ok(0), |text| {
            number(text).ok_or_else(|| parameters.bad_value("untag", text, EXPECTED))
        })?;
        let tagged = any(["tag", "t"]).map_or(Ok(Vec::new()), |text| list(&parameters, text))?;
        let protocol = if has("qinq") || has("q") || has("ad") { SERVICE } else { CUSTOMER };
        Ok(Self { protocol, untagged, native, tagged, trunk: has("trunk") || has("x") })
    }

    fn here(&self, network: u16) -> Option<u16> {
        let listed = self.tagged.iter().find(|(_, there)| *there == network);
        listed.map(|(here, _)| *here).or(self.trunk.then_some(network)).filter(|id| usual(*id))
    }

    fn there(&self, here: u16) -> Option<u16> {
        let listed = self.tagged.iter().find(|(id, _)| *id == here);
        listed.map(|(_, there)| *there).or(self.trunk.then_some(here)).filter(|id| usual(*id))
    }

    fn tag(&self, frame: &[u8], id: u16) -> Verdict {
        let tag = [self.protocol, id.to_be_bytes()].concat();
        Verdict::Pass([&frame[..TYPE], &tag, &frame[TYPE..]].concat())
    }

    /// The VLAN of a frame that is tagged by our protocol, and the rest of the tag.
    fn id_of(&self, frame: &[u8]) -> Option<(u16, u16)> {
        match frame.get(TYPE..TYPE + TAG)? {
            [a, b, high, low] if [*a, *b] == self.protocol => {
                let control = u16::from_be_bytes([*high, *low]);
                Some((control & ID, control & !ID))
            }
            _ => None,
        }
    }
}

const EXPECTED: &str = "a VLAN, a number from 0 to 4095";

fn number(text: &str) -> Option<u16> {
    let hexadecimal = text.strip_prefix("0x").map(|digits| u16::from_str_radix(digits, 16));
    hexadecimal.unwrap_or_else(|| text.parse()).ok().filter(|id| *id <= ID)
}

/// Reads `A`, `A-B` (A here is B on the network), separated by colons or dots.
fn list(parameters: &Resolved<'_>, text: &str) -> Result<Vec<(u16, u16)>, VnlError> {
    let items = text.split([':', '.']).filter(|item| !item.is_empty());
    let pairs = items.map(|item| {
        let (here, there) = item.split_once('-').unwrap_or((item, item));
        let pair = number(here).zip(number(there)).filter(|(a, b)| usual(*a) && usual(*b));
        let expected = "VLANs from 2 to 4094 as 10:11-12 (11 here is 12 on the network)";
        pair.ok_or_else(|| parameters.bad_value("tag", text, expected))
    });
    pairs.collect()
}

/// Whether a VLAN may be seen with its tag: 0, 1 and 4095 are reserved.
fn usual(id: u16) -> bool {
    (2..ID).contains(&id)
}

fn untag(mut frame: Vec<u8>) -> Verdict {
    frame.drain(TYPE..TYPE + TAG);
    if frame.len() < MIN_FRAME { Verdict::Drop } else { Verdict::Pass(frame) }
}

fn renumber(mut frame: Vec<u8>, id: u16, rest: u16) -> Verdict {
    frame[TYPE + 2..TYPE + TAG].copy_from_slice(&(id | rest).to_be_bytes());
    Verdict::Pass(frame)
}

impl Codec for Tagging {
    fn outward(&self, frame: Vec<u8>) -> Verdict {
        match self.id_of(&frame) {
            Some((id, _)) if id == self.native => untag(frame),
            Some((id, rest)) => match self.there(id) {
                Some(id) => renumber(frame, id, rest),
                None => Verdict::Ignore,
            },
            None => match (self.untagged, self.native) {
                (0, 0) => Verdict::Pass(frame),
                (0 | ID, _) => Verdict::Ignore,
                (id, _) => self.tag(&frame, id),
            },
        }
    }

    fn inward(&self, frame: Vec<u8>) -> Verdict {
        match self.id_of(&frame) {
            Some((id, _)) if id == self.untagged => untag(frame),
            Some((id, rest)) => match self.here(id) {
                Some(id) => renumber(frame, id, rest),
                None => Verdict::Ignore,
            },
            None => match (self.untagged, self.native) {
                (0, 0) => Verdict::Pass(frame),
                (_, 0) => Verdict::Ignore,
                (_, id) => self.tag(&frame, id),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn tagging(text: &str) -> Tagging {
        let vnl: Vnl = format!("vlan://{text}{{null://}}").parse().expect("a locator");
        Tagging::of(&vnl).unwrap_or_else(|error| panic!("{error}"))
    }

    fn frame(tag: &[u8]) -> Vec<u8> {
        [&[1; 12][..], tag, &[8, 0], &[7; 46]].concat()
    }

    fn tagged(id: u16) -> Vec<u8> {
        frame(&[&CUSTOMER[..], &id.to_be_bytes()].concat())
    }

    #[test]
    fn an_access_port_sees_one_vlan() {
        let port = tagging("4");
        assert_eq!(port.outward(frame(&[])), Verdict::Pass(tagged(4)));
        assert_eq!(port.inward(tagged(4)), Verdict::Pass(frame(&[])));
        assert_eq!(port.inward(tagged(5)), Verdict::Ignore);
        assert_eq!(port.inward(frame(&[])), Verdict::Ignore, "untagged on the network");
        assert_eq!(port.outward(tagged(4)), Verdict::Ignore, "tagged here");
        assert_eq!(port.inward(tagged(0xa004)), Verdict::Pass(frame(&[])), "whatever the priority");
    }

    #[test]
    fn vlans_are_renumbered_and_keep_their_priority() {
        let port = tagging("3[untag=4/tag=10:11-12:12-11]");
        assert_eq!(port.outward(tagged(10)), Verdict::Pass(tagged(10)));
        assert_eq!(port.outward(tagged(0x600b)), Verdict::Pass(tagged(0x600c)));
        assert_eq!(port.inward(tagged(0x600b)), Verdict::Pass(tagged(0x600c)));
        assert_eq!(port.inward(tagged(13)), Verdict::Ignore);
        assert_eq!(port.outward(tagged(4)), Verdict::Pass(frame(&[])));
        assert_eq!(port.inward(frame(&[])), Verdict::Pass(tagged(4)));
    }

    #[test]
    fn a_trunk_sees_all_vlans_but_the_reserved_ones() {
        let port = tagging("[trunk]");
        assert_eq!(port.outward(frame(&[])), Verdict::Pass(frame(&[])));
        for id in [2, 100, 4094] {
            assert_eq!(port.outward(tagged(id)), Verdict::Pass(tagged(id)));
            assert_eq!(port.inward(tagged(id)), Verdict::Pass(tagged(id)));
        }
        for id in [1, 4095] {
            assert_eq!(port.outward(tagged(id)), Verdict::Ignore);
            assert_eq!(port.inward(tagged(id)), Verdict::Ignore);
        }
    }

    #[test]
    fn service_tags_go_around_customer_tags() {
        let port = tagging("5/qinq");
        let Verdict::Pass(double) = port.outward(tagged(4)) else { panic!("it passes") };
        assert_eq!(double[TYPE..TYPE + 8], [0x88, 0xa8, 0, 5, 0x81, 0, 0, 4]);
        assert_eq!(port.inward(double), Verdict::Pass(tagged(4)));
    }

    #[test]
    fn parameters_have_short_names_and_two_places() {
        assert_eq!(tagging("3/u=4/x/t=10.11-12"), tagging("3[untag=4/trunk/tag=10:11-12]"));
        assert_eq!(tagging("0x10/ad"), tagging("16[q]"));
        let error = |text: &str| crate::open(text, "test").expect_err(text).to_string();
        let expected = "vlan://: VLAN=4096: should be a VLAN, a number from 0 to 4095";
        assert_eq!(error("vlan://4096{null://}"), expected);
        assert!(error("vlan://[tag=1]{null://}").contains("VLANs from 2 to 4094"));
        assert!(error("vlan://4").contains("needs a network in braces"));
        assert!(error("vlan://4[vid=3]{null://}").contains("no parameter `vid`"));
    }

    proptest! {
        #[test]
        fn no_frame_is_too_odd(bytes in vec(any::<u8>(), 14..64), path in 0u16..=4095) {
            for port in [tagging(&format!("{path}")), tagging(&format!("{path}[trunk/untag=7]"))] {
                for verdict in [port.inward(bytes.clone()), port.outward(bytes.clone())] {
                    if let Verdict::Pass(frame) = verdict {
                        prop_assert!(frame.len() >= MIN_FRAME);
                    }
                }
            }
        }
    }
}
