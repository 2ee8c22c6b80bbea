use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::{AddrInfoError, LookupError};

/// A question about names that got no answer.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use tepal::names::AddrInfoError;
///
/// let event_loop = tepal::EventLoop::new()?;
/// let lookup = event_loop.resolve("no such.name", 80);
/// let error = event_loop.run_until_complete(lookup)?.expect_err("a space in a name");
/// assert_eq!(error.code, AddrInfoError::NoName);
/// assert!(!error.is_temporary()); // it will not be better later
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResolveError {
    /// The code that getaddrinfo has for it. For programs.
    pub code: AddrInfoError,
    /// What is known beyond the code.
    pub cause: Option<ResolveCause>,
}

/// Why there was no answer, in detail.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ResolveCause {
    /// What the servers and files said.
    Lookup(Box<LookupError>),
    /// What another resolver said.
    Foreign(Arc<dyn Error + Send + Sync>),
}

impl ResolveError {
    /// An error of a resolver of the caller's.
    pub fn foreign(
        code: AddrInfoError,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> ResolveError {
        let cause: Box<dyn Error + Send + Sync> = cause.into();
        ResolveError { code, cause: Some(ResolveCause::Foreign(cause.into())) }
    }

    /// Whether the same question may be answered later.
    pub fn is_temporary(&self) -> bool {
        self.code == AddrInfoError::Again
    }
}

impl From<AddrInfoError> for ResolveError {
    fn from(code: AddrInfoError) -> ResolveError {
        ResolveError { code, cause: None }
    }
}

impl From<LookupError> for ResolveError {
    fn from(error: LookupError) -> ResolveError {
        let code = AddrInfoError::from(&error);
        ResolveError { code, cause: Some(ResolveCause::Lookup(Box::new(error))) }
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(ResolveCause::Lookup(error)) => error.fmt(f),
            Some(ResolveCause::Foreign(error)) => write!(f, "{}: {error}", self.code),
            None => self.code.fmt(f),
        }
    }
}

impl Error for ResolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Some(ResolveCause::Lookup(_)) | None => None,
            Some(ResolveCause::Foreign(error)) => Some(&**error),
        }
    }
}
