use std::fmt::{self, Display};
use std::time::SystemTime;

use tepal_driver::{Address, Connect, Descriptor, FileStamp, Sent};

use crate::errno::Fault;

/// A result as the trace shows it.
pub(crate) trait Told {
    fn tell(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// Shows a result.
pub(crate) struct Telling<'a, T>(pub(crate) &'a T);

impl<T: Told> Display for Telling<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.tell(f)
    }
}

macro_rules! told {
    ($($type:ty: |$value:ident, $f:ident| $tell:expr;)*) => {
        $(impl Told for $type {
            fn tell(&self, $f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $value = self;
                $tell
            }
        })*
    };
}

told! {
    (): |_value, f| f.write_str("ok");
    usize: |value, f| write!(f, "{value}");
    Vec<u8>: |value, f| write!(f, "{} bytes", value.len());
    SystemTime: |value, f| write!(f, "{value:?}");
    FileStamp: |value, f| write!(f, "inode {}, {} bytes", value.inode, value.len);
    Descriptor: |value, f| write!(f, "{value:?}");
    (Descriptor, Descriptor): |value, f| write!(f, "{:?} {:?}", value.0, value.1);
    (Descriptor, Address): |value, f| write!(f, "{:?} {}", value.0, value.1);
    Address: |value, f| write!(f, "{value}");
    Connect: |value, f| write!(f, "{value:?}");
    Option<Fault>: |value, f| match value {
        Some(fault) => write!(f, "{fault}"),
        None => f.write_str("none"),
    };
    (usize, bool): |value, f| write!(f, "{}{}", value.0, if value.1 { " more" } else { "" });
    (usize, Option<Address>): |value, f| match &value.1 {
        Some(address) => write!(f, "{} from {address}", value.0),
        None => write!(f, "{}", value.0),
    };
    Sent: |value, f| write!(f, "{}{}", value.count, if value.blocked { " blocked" } else { "" });
}
