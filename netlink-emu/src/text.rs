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
    ADDRESS_MISSING_V6 = EADDRNOTAVAIL, "address not found";
    ADDRESS_INVALID_PREFIX_V4 = EINVAL, "ipv4: Invalid prefix length";
    ADDRESS_INVALID_PREFIX_V6 = EINVAL, "ipv6: Invalid prefix length";
    ADDRESS_DEVICE_MISSING_V4 = ENODEV, "ipv4: Device not found";
    ADDRESS_DEVICE_MISSING_V6 = ENODEV, "ipv6: Unable to find the interface";
    ADDRESS_LOCAL_MISSING = EINVAL, "ipv4: Local address is not supplied";
    ADDRESS_LIFETIME = EINVAL, "ipv4: address lifetime invalid";
    ADDRESS_LIFETIME_V6 = EINVAL, "ipv6: address lifetime invalid";
    ADDRESS_SCOPE = EINVAL, "ipv4: Invalid scope value";
    ADDRESS_CANNOT_ASSIGN = EADDRNOTAVAIL, "Cannot assign requested address";
    IPV6_DISABLED = EACCES, "ipv6: IPv6 is disabled on this device";

    NEXTHOP_INVALID_GATEWAY = ENETUNREACH, "Nexthop has invalid gateway";
    NEXTHOP_BAD_GATEWAY = EINVAL, "Nexthop has invalid gateway";
    NEXTHOP_DEVICE_DOWN = ENETDOWN, "Device for nexthop is not up";
    NEXTHOP_DEVICE_DOWN_V6 = ENETDOWN, "Nexthop device is not up";
    NEXTHOP_CARRIER_DOWN = ENETDOWN, "Carrier for nexthop is down";
    NEXTHOP_SCOPE = EINVAL, "Nexthop has invalid scope";
    NEXTHOP_NO_DEVICE = ENODEV, "Egress device is required";
    GATEWAY_IS_LOCAL = EINVAL, "Gateway can not be a local address";
    GATEWAY_INVALID_V6 = EINVAL, "Invalid gateway address";
    GATEWAY_NO_ROUTE = EHOSTUNREACH, "No route to host";
    GATEWAY_NEEDS_DEVICE = EINVAL, "Device not specified for link local gateway";
    ROUTE_DEVICE_INVALID = ENODEV, "Invalid device";
    ROUTE_OIF_NOT_GATEWAY = EINVAL, "Egress device can not be loopback device for this route";
    ROUTE_PREFSRC = EINVAL, "Invalid prefsrc address";
    ROUTE_SOURCE_V6 = EINVAL, "Invalid source address";
    ROUTE_PREFIX_LENGTH = EINVAL, "Invalid prefix length";
    ROUTE_PREFIX_BITS = EINVAL, "Invalid prefix for given prefix length";
    ROUTE_SCOPE = EINVAL, "Invalid scope";
    ROUTE_TABLE_MISSING = ESRCH, "FIB table does not exist";
    ROUTE_DUMP_TABLE_MISSING = ENOENT, "ipv4: FIB table does not exist";
    ROUTE_DUMP_TABLE_MISSING_V6 = ENOENT, "FIB table does not exist";
    ROUTE_LOCAL_IN_ADD = EINVAL, "Invalid route type";
    NEXTHOP_OBJECTS = EOPNOTSUPP, "Nexthop objects are not supported";

    NEIGHBOUR_EXISTS = EEXIST, "Neighbour entry already exists";
    NEIGHBOUR_NO_DEVICE = EINVAL, "Device not specified";
    NEIGHBOUR_NO_LLADDR = EINVAL, "Invalid link address";
    NEIGHBOUR_NO_DST = EINVAL, "Network address not specified";
    NEIGHBOUR_INVALID_DST = EINVAL, "Invalid network address";

    LINK_UNKNOWN_KIND = EOPNOTSUPP, "Unknown device type";
    LINK_MTU_SMALL = EINVAL, "mtu less than device minimum";
    LINK_MTU_LARGE = EINVAL, "mtu greater than device maximum";
    LINK_NOT_FOUND = ENODEV, "";
    LINK_NAME_TAKEN = EEXIST, "";
    LINK_RENAME_BUSY = EBUSY, "";
    LINK_CARRIER = EOPNOTSUPP, "";
    RULES_READ_ONLY = EOPNOTSUPP, "";
}
