use std::env;
use std::io;

use super::Engine;
use crate::Driver;
#[cfg(all(target_os = "linux", not(tepal_portable)))]
use crate::selector::Epoll;
use crate::selector::Poll;

/// The engines of this build, the default one first.
///
/// ```
/// assert!(tepal_driver::driver_names().contains(&"poll"));
/// ```
pub fn driver_names() -> &'static [&'static str] {
    #[cfg(all(target_os = "linux", not(tepal_portable)))]
    return &["epoll", "poll"];
    #[cfg(not(all(target_os = "linux", not(tepal_portable))))]
    return &["poll"];
}

/// Opens an engine: the one named, else the one that the environment variable `TEPAL_DRIVER`
/// names, else the first of [`driver_names`]. An empty variable counts as unset.
///
/// ```
/// let driver = tepal_driver::open_driver(Some("poll"))?;
/// assert_eq!(driver.name(), "poll");
/// let error = tepal_driver::open_driver(Some("select")).err().expect("there is none");
/// assert!(error.to_string().contains("poll"));
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
///
/// `InvalidInput` for a name that is not one of [`driver_names`], which the text lists; else what
/// the kernel says, such as `EMFILE`.
pub fn open_driver(name: Option<&str>) -> io::Result<Box<dyn Driver>> {
    let variable = env::var_os("TEPAL_DRIVER").filter(|name| !name.is_empty());
    let variable = variable.map(|name| name.to_string_lossy().into_owned());
    match name.or(variable.as_deref()).unwrap_or(driver_names()[0]) {
        #[cfg(all(target_os = "linux", not(tepal_portable)))]
        "epoll" => Ok(Box::new(Engine::<Epoll>::new()?)),
        "poll" => Ok(Box::new(Engine::<Poll>::new()?)),
        other => {
            let names = driver_names().join(", ");
            let text = format!("there is no driver named {other:?}; there are: {names}");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}
