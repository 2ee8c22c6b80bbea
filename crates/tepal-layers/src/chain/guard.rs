use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Error, ErrorKind};

/// Calls a layer, which may be a user's: its panic is its error, and costs one connection.
///
/// Unwind safety: a layer that has failed is not stepped again, and its neighbours are queues, whole
/// after each call of theirs.
#[inline]
pub(super) fn guard<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(panicked(&*payload)))
}

#[cold]
fn panicked(payload: &(dyn Any + Send)) -> Error {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = format!("the layer panicked: {}", text.unwrap_or("with a value"));
    Error::local(ErrorKind::Other, message)
}
