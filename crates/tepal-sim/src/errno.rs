use std::fmt;
use std::io;

/// Why an operation failed: an errno, or that the simulation does not have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Os(i32),
    Unsupported,
}

pub(crate) type Outcome<T> = Result<T, Fault>;

macro_rules! faults {
    ($($name:ident)*) => {
        $(pub(crate) const $name: Fault = Fault::Os(libc::$name);)*

        /// The errno's name for traces; its number if the simulation itself never gives it.
        impl fmt::Display for Fault {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $($name => f.write_str(stringify!($name)),)*
                    Fault::Os(number) => write!(f, "errno {number}"),
                    Fault::Unsupported => f.write_str("unsupported"),
                }
            }
        }
    };
}

faults! {
    EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNABORTED ECONNREFUSED
    ECONNRESET EDESTADDRREQ EEXIST EINVAL EISCONN EISDIR EMFILE EMSGSIZE ENETUNREACH ENODEV ENOENT
    ENOPROTOOPT ENOTCONN EOPNOTSUPP EPERM EPIPE EPROTO EPROTOTYPE ETIMEDOUT
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> io::Error {
        match fault {
            Fault::Os(number) => io::Error::from_raw_os_error(number),
            Fault::Unsupported => io::ErrorKind::Unsupported.into(),
        }
    }
}
