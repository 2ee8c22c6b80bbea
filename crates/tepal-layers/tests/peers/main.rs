//! Foreign programs as peers. Each test starts its own on loopback, drives a chain over a blocking
//! socket without any loop, and stops what it started.
//!
//! A program that is absent is told to the file named by `TEPAL_ABSENT_FILE`; without that file
//! the test fails.
#![cfg(all(feature = "tls", target_os = "linux"))]
// The driver of these tests has the sockets, threads and files that the crate must not have.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod bad_certificates;
mod certificates;
mod programs;
mod wire;

mod closing;
mod curl;
mod haproxy;
mod nginx;
mod openssl;
mod proxies;
mod servers;
mod starttls;
mod stunnel;
mod tap;
mod towers;
