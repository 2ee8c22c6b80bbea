use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open descriptors to the hard one, for servers: a connection is a
/// descriptor, and many systems start programs with room for 1024. The limit that holds now;
/// `None`: there is none.
///
/// It belongs to the process and is inherited by children. A child that uses select(2) cannot
/// handle numbers above 1023; it must lower the limit again.
///
/// # Errors
///
/// The kernel's, if it has a ceiling of its own below the hard limit; nothing has changed then.
///
/// ```
/// let limit = tepal_driver::raise_descriptor_limit()?;
/// assert!(limit.is_none_or(|limit| limit >= 64));
/// # std::io::Result::Ok(())
/// ```
pub fn raise_descriptor_limit() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}
