use std::fmt;

use crate::error::{LookupError, LookupErrorKind};

/// The error codes of getaddrinfo and getnameinfo.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AddrInfoError {
    /// `EAI_BADFLAGS`.
    BadFlags,
    /// `EAI_NONAME`.
    NoName,
    /// `EAI_AGAIN`.
    Again,
    /// `EAI_FAIL`.
    Fail,
    /// `EAI_NODATA`.
    NoData,
    /// `EAI_FAMILY`.
    Family,
    /// `EAI_SOCKTYPE`.
    SocketType,
    /// `EAI_SERVICE`.
    Service,
    /// `EAI_ADDRFAMILY`.
    AddressFamily,
}

impl AddrInfoError {
    /// The error of glibc's number; `None` if it is none of these (`EAI_SYSTEM`, `EAI_MEMORY`).
    pub fn from_code(code: i32) -> Option<AddrInfoError> {
        let all = [
            AddrInfoError::BadFlags,
            AddrInfoError::NoName,
            AddrInfoError::Again,
            AddrInfoError::Fail,
            AddrInfoError::NoData,
            AddrInfoError::Family,
            AddrInfoError::SocketType,
            AddrInfoError::Service,
            AddrInfoError::AddressFamily,
        ];
        all.into_iter().find(|error| error.code() == code)
    }

    /// glibc's number.
    pub fn code(self) -> i32 {
        match self {
            AddrInfoError::BadFlags => -1,
            AddrInfoError::NoName => -2,
            AddrInfoError::Again => -3,
            AddrInfoError::Fail => -4,
            AddrInfoError::NoData => -5,
            AddrInfoError::Family => -6,
            AddrInfoError::SocketType => -7,
            AddrInfoError::Service => -8,
            AddrInfoError::AddressFamily => -9,
        }
    }
}

impl From<&LookupError> for AddrInfoError {
    fn from(error: &LookupError) -> AddrInfoError {
        match error.kind {
            LookupErrorKind::NoData => AddrInfoError::NoData,
            LookupErrorKind::OtherFamily => AddrInfoError::AddressFamily,
            LookupErrorKind::ServersFailed | LookupErrorKind::DeadlinePassed => {
                AddrInfoError::Again
            }
            LookupErrorKind::AliasLoop => AddrInfoError::Fail,
            LookupErrorKind::InvalidName(_)
            | LookupErrorKind::UnknownZone
            | LookupErrorKind::NotFound
            | LookupErrorKind::NeverResolved
            | LookupErrorKind::OtherModule => AddrInfoError::NoName,
        }
    }
}

/// glibc's words: programs compare them.
impl fmt::Display for AddrInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddrInfoError::BadFlags => "Bad value for ai_flags",
            AddrInfoError::NoName => "Name or service not known",
            AddrInfoError::Again => "Temporary failure in name resolution",
            AddrInfoError::Fail => "Non-recoverable failure in name resolution",
            AddrInfoError::NoData => "No address associated with hostname",
            AddrInfoError::Family => "ai_family not supported",
            AddrInfoError::SocketType => "ai_socktype not supported",
            AddrInfoError::Service => "Servname not supported for ai_socktype",
            AddrInfoError::AddressFamily => "Address family for hostname not supported",
        })
    }
}

impl std::error::Error for AddrInfoError {}
