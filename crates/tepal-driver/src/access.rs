use std::os::fd::{BorrowedFd, RawFd};

use rustix::fs::{FileType, OFlags};

/// In which directions a descriptor from outside can be used.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::os::fd::AsRawFd;
/// use tepal_driver::Access;
///
/// let (reader, writer) = std::io::pipe()?;
/// assert_eq!(Access::of(writer.as_raw_fd()), Access::PipeInput);
/// assert_eq!(Access::of(reader.as_raw_fd()), Access::Other);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The write end of a pipe or FIFO. The kernel tells when nobody reads the other end.
    PipeInput,
    /// Anything else that is open for writing only: a terminal, a file.
    WriteOnly,
    /// It can be read from, or it is not open.
    Other,
}

impl Access {
    /// Asks the kernel.
    pub fn of(fd: RawFd) -> Access {
        if fd < 0 {
            return Access::Other;
        }
        // SAFETY: not -1. Only questions are asked, which fail if it is not open.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        match rustix::fs::fcntl_getfl(fd) {
            Ok(flags) if flags & OFlags::RWMODE == OFlags::WRONLY => {}
            _ => return Access::Other,
        }
        match rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Fifo) => Access::PipeInput,
            _ => Access::WriteOnly,
        }
    }
}
