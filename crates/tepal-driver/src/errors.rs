/// Whether an error number says that the process or the system is out of descriptors, socket
/// buffers or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`): trying again later may work.
pub fn is_exhaustion(errno: i32) -> bool {
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}
