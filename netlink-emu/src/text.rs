//! The sentences of Linux's extended acknowledgements (`NLMSGERR_ATTR_MSG`), word for word:
//! `ip` prints them as `Error: SENTENCE.`
//!
//! Each constant is a [`Failure`] ready to return.

use std::borrow::Cow;

use umvu_abi::Errno;

use crate::host::Failure;

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $errno:ident, $message:literal;)*) => {
        $(
            $(#[$doc])*
            #[doc = concat!("`", stringify!($errno), "`: \"", $message, "\"")]
            pub const $name: Failure =
                Failure { errno: Errno::$errno, message: Cow::Borrowed($message) };
        )*
    };
}

failures! {
    ADDRESS_EXISTS_V4 = EEXIST, "ipv4: Address already assigned";
    ADDRESS_EXISTS_V6 = EEXIST, "ipv6: address already assigned";
    ADDRESS_MISSING_V4 = EADDRNOTAVAIL, "ipv4: Address not found";
    ADDRESS_MISSING_V6 = EADDRNOTAVAIL, "ipv6: address not found";
    ADDRESS_PREFIX_V4 = EINVAL, "ipv4: Invalid prefix length";
    ADDRESS_PREFIX_V6 = EINVAL, "ipv6: Invalid prefix length";
    ADDRESS_DEVICE_MISSING_V4 = ENODEV, "ipv4: Device not found";
    ADDRESS_DEVICE_MISSING_V6 = ENODEV, "ipv6: Unable to find the interface";
    ADDRESS_LOCAL_MISSING = EINVAL, "ipv4: Local address is not supplied";
    ADDRESS_LIFETIME = EINVAL, "ipv4: Lifetime is not valid";
    ADDRESS_LIFETIME_V6 = EINVAL, "ipv6: address lifetime invalid";
    ADDRESS_SCOPE = EINVAL, "ipv4: Invalid scope value";
    ADDRESS_CANNOT_ASSIGN = EADDRNOTAVAIL, "ipv6: Cannot assign requested address";
    IPV6_DISABLED = EACCES, "ipv6: IPv6 is disabled on this device";

    NEXTHOP_INVALID_GATEWAY = ENETUNREACH, "Nexthop has invalid gateway";
    NEXTHOP_BAD_GATEWAY = EINVAL, "Nexthop has invalid gateway";
    NEXTHOP_DEVICE_DOWN = ENETDOWN, "Device for nexthop is not up";
    NEXTHOP_DEVICE_DOWN_V6 = ENETDOWN, "Nexthop device is not up";
    NEXTHOP_ONLINK_DEVICE = ENODEV, "Nexthop device required for onlink";
    NEXTHOP_IPV6_DISABLED = EACCES, "IPv6 is disabled on nexthop device";
    NEXTHOP_SCOPE = EINVAL, "Nexthop has invalid scope";
    NEXTHOPS = EOPNOTSUPP, "Nexthop objects are not supported, give the gateway to the route";
    NEXTHOP_OBJECTS = EINVAL, "Nexthop id does not exist";
    GATEWAY_IS_LOCAL = EINVAL, "Gateway can not be a local address";
    GATEWAY_INVALID_V6 = EINVAL, "Invalid gateway address";
    GATEWAY_NO_DEVICE_V6 = EINVAL, "Egress device not specified";
    ROUTE_OIF_LOOPBACK = EINVAL, "Egress device can not be loopback device for this route";
    ROUTE_PREFSRC = EINVAL, "Invalid prefsrc address";
    ROUTE_SOURCE_V6 = EINVAL, "Invalid source address";
    ROUTE_PREFIX_LENGTH = EINVAL, "Invalid prefix length";
    ROUTE_PREFIX_BITS = EINVAL, "Invalid prefix for given prefix length";
    ROUTE_SCOPE = EINVAL, "Invalid scope";
    ROUTE_KIND = EINVAL, "Invalid route type";
    ROUTE_REJECT_WITH_HOP =
        EINVAL, "Gateway, device and multipath can not be specified for this route type";
    ROUTE_HOST_MULTIPATH = EINVAL, "Route with host scope can not have multiple nexthops";
    ROUTE_HOST_GATEWAY = EINVAL, "Route with host scope can not have a gateway";
    LINK_ELSEWHERE = EOPNOTSUPP, "Interfaces stay in their stack";
    RULE_HEADER = EINVAL, "Invalid msg length";
    RULE_FAMILY = EAFNOSUPPORT, "Rule family not supported";
    RULE_TABLE = EINVAL, "Invalid table";
    RULE_TO = EINVAL, "Invalid dst address";
    RULE_FROM = EINVAL, "Invalid src address";
    RULE_GOTO = EINVAL, "Invalid goto rule";
    RULE_BACKWARD = EINVAL, "Backward goto not supported";
    RULE_SELECTOR = EOPNOTSUPP, "Rules choose by addresses, interfaces and marks here";
    ROUTE_TABLE_MISSING = ESRCH, "FIB table does not exist";
    POLICY = ERANGE, "Attribute failed policy validation";
    DUMP_LINK_HEADER = EINVAL, "Invalid header for link dump";
    DUMP_LINK_VALUES = EINVAL, "Invalid values in header for link dump request";
    DUMP_LINK_INDEX = EINVAL, "Filter by device index not supported for link dumps";
    DUMP_ADDRESS_HEADER_V4 = EINVAL, "ipv4: Invalid header for address dump request";
    DUMP_ADDRESS_HEADER_V6 = EINVAL, "ipv6: Invalid header for address dump request";
    DUMP_ADDRESS_VALUES_V4 = EINVAL, "ipv4: Invalid values in header for address dump request";
    DUMP_ADDRESS_VALUES_V6 = EINVAL, "ipv6: Invalid values in header for address dump request";
    DUMP_ADDRESS_ATTRIBUTE_V4 = EINVAL, "ipv4: Unsupported attribute in dump request";
    DUMP_ADDRESS_ATTRIBUTE_V6 = EINVAL, "ipv6: Unsupported attribute in dump request";
    DUMP_ROUTE_HEADER = EINVAL, "Invalid header for FIB dump request";
    DUMP_ROUTE_VALUES = EINVAL, "Invalid values in header for FIB dump request";
    DUMP_ROUTE_FLAGS = EINVAL, "Invalid flags for FIB dump request";
    DUMP_NEIGHBOUR_HEADER = EINVAL, "Invalid header for neighbor dump request";
    DUMP_NEIGHBOUR_VALUES = EINVAL, "Invalid values in header for neighbor dump request";
    DUMP_RULE_HEADER = EINVAL, "Invalid header for fib rule dump request";
    DUMP_RULE_VALUES = EINVAL, "Invalid values in header for fib rule dump request";
    DUMP_TABLE_MISSING_V4 = ENOENT, "ipv4: FIB table does not exist";
    DUMP_TABLE_MISSING_V6 = ENOENT, "ipv6: FIB table does not exist";

    NEIGHBOUR_NO_ADDRESS = EINVAL, "Network address not specified";
    NEIGHBOUR_BAD_ADDRESS = EINVAL, "Invalid network address";
    NEIGHBOUR_NO_MAC = EINVAL, "No link layer address given";
    NEIGHBOUR_BAD_MAC = EINVAL, "Invalid link address";

    QDISC_UNKNOWN_KIND = ENOENT, "Specified qdisc kind is unknown";
    QDISC_NO_PARENT = ENOENT, "Failed to find specified qdisc";
    QDISC_NO_CLASS = ENOENT, "Specified class not found";
    QDISC_NOT_CLASSFUL = EOPNOTSUPP, "Parent qdisc is not classful";
    QDISC_MISSING = ENOENT, "Specified qdisc not found";
    QDISC_NOT_ON_DEVICE = ENOENT, "Cannot find specified qdisc on specified device";
    QDISC_CLASS_MISSING = ENOENT, "Failed to find qdisc with specified classid";
    QDISC_HANDLE_MISSING = ENOENT, "Failed to find qdisc with specified handle";
    QDISC_HANDLE_BAD = EINVAL, "Invalid handle";
    QDISC_HANDLE_MINOR = EINVAL, "Invalid minor handle";
    QDISC_HANDLE_ZERO = EINVAL, "Handle cannot be zero";
    QDISC_CLASS_ZERO = EINVAL, "Classid cannot be zero";
    QDISC_DELETE_DEFAULT = ENOENT, "Cannot delete qdisc with handle of zero";
    QDISC_EXISTS = EEXIST, "Exclusivity flag on, cannot modify";
    QDISC_EXISTS_ELSEWHERE = EEXIST, "Exclusivity flag on, cannot override";
    QDISC_NEEDS_REPLACE = EEXIST, "NLM_F_REPLACE needed to override";
    QDISC_NEEDS_CREATE = ENOENT, "Qdisc not found. To create specify NLM_F_CREATE flag";
    QDISC_OTHER_KIND = EINVAL, "Invalid qdisc name: must match existing qdisc";
    QDISC_MOVE = EINVAL, "Cannot move an existing qdisc to a different parent";
    QDISC_NO_CHANGE = EINVAL, "Change operation not supported by specified qdisc";
    QDISC_NOQUEUE_INSIDE = EINVAL, "Cannot assign noqueue to a class";
    QDISC_TOO_MANY = ENOSPC, "Maximum number of qdisc handles was exceeded";
    QDISC_TWO_DUPLICATORS =
        EINVAL, "netem: cannot mix duplicating netems with other netems in tree";
    FILTER_UNSUPPORTED = EOPNOTSUPP, "Filters and actions are not supported by this stack";
    FILTER_NO_PARENT = EINVAL, "Parent Qdisc doesn't exists";

    LINK_UNKNOWN_KIND = EOPNOTSUPP, "Unknown device type";
    LINK_TOO_MANY = EAGAIN, "Too many interfaces are being opened";
    LINK_LOWER_MISSING = EINVAL, "link not specified";
    LINK_LOWER_UNKNOWN = ENODEV, "link does not exist";
    LINK_BRIDGE_IN_BRIDGE = ELOOP, "Can not enslave a bridge to a bridge";
    VLAN_UNSPECIFIED = EINVAL, "VLAN properties not specified";
    VLAN_ID_MISSING = EINVAL, "VLAN id not specified";
    VLAN_ID_INVALID = ERANGE, "Invalid VLAN id";
    VLAN_PROTOCOL = EPROTONOSUPPORT, "Invalid VLAN protocol";
    VLAN_EXISTS = EEXIST, "VLAN device already exists";
    VLAN_REFUSED = EOPNOTSUPP, "VLANs not supported on device";
    VLAN_FLAGS = EOPNOTSUPP, "Only reorder_hdr on is supported";
    BRIDGE_STP = EOPNOTSUPP, "There is no spanning tree: leave stp_state off";
    BRIDGE_VLANS = EOPNOTSUPP, "Bridges do not filter VLANs: put VLAN interfaces into one each";
    STATION_SELF = EOPNOTSUPP, "Only the tables of bridges can be changed: add `master`";
    STATION_NO_PORT = EINVAL, "The interface is no port of a bridge";
    LINK_MTU_SMALL = EINVAL, "mtu less than device minimum";
    LINK_MTU_LARGE = EINVAL, "mtu greater than device maximum";
}
