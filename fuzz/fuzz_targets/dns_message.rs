//! A server that says anything: the lookup ends by its deadline, nothing panics, and a stream
//! means the same however it is cut.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tepal_base::Instant;
use tepal_names::config::ResolvConf;
use tepal_names::error::LookupError;
use tepal_names::resolver::{Answer, Resolver, Settings, Started, Transmit};
use tepal_names::{Family, RecordType};

fuzz_target!(|data: &[u8]| {
    let Some((&[choice, piece], reply)) = data.split_first_chunk::<2>() else { return };
    let use_vc = choice & 1 != 0;
    let whole = run(choice, reply, usize::MAX);
    if use_vc {
        assert_eq!(whole, run(choice, reply, usize::from(piece) + 1));
    }
});

/// One lookup whose every message gets the same reply, with id and question made to match.
fn run(choice: u8, reply: &[u8], piece: usize) -> Result<Answer, LookupError> {
    let mut resolver = Resolver::new(Settings::default(), [7; 32]);
    let mut conf = ResolvConf::default();
    conf.use_vc = choice & 1 != 0;
    resolver.set_resolv_conf(conf);
    let mut now = Instant::ZERO;
    let deadline = now + Duration::from_secs(15);
    let started = match choice >> 1 & 3 {
        0 => resolver.lookup_host("host.test", Family::V4, deadline, now),
        1 => resolver.lookup_host("host.test", Family::Unspecified, deadline, now),
        2 => resolver.lookup_address([192, 0, 2, 1].into(), deadline, now),
        _ => resolver.lookup_records("host.test", RecordType(u16::from(choice)), deadline, now),
    };
    if let Started::Finished(result) = started {
        return result;
    }
    loop {
        while let Some(transmit) = resolver.poll_transmit() {
            match transmit {
                Transmit::Datagram { exchange, message, .. } => {
                    resolver.handle_datagram(exchange, &fitting(&message, reply), now);
                }
                Transmit::Stream { exchange, message, .. } => {
                    let body = fitting(&message[2..], reply);
                    let mut framed = (body.len() as u16).to_be_bytes().to_vec();
                    framed.extend(body);
                    for bytes in framed.chunks(piece) {
                        resolver.handle_stream(exchange, bytes, now);
                    }
                }
                Transmit::Close { .. } => {}
            }
        }
        if let Some((_, result)) = resolver.poll_finished() {
            assert!(now <= deadline);
            return result;
        }
        now = resolver.poll_timeout().expect("a lookup has a deadline");
        resolver.handle_timeout(now);
    }
}

/// The reply with the query's id; and its question, if it has one at the usual place.
fn fitting(query: &[u8], reply: &[u8]) -> Vec<u8> {
    let mut reply = reply[..reply.len().min(65_535)].to_vec();
    if reply.len() > 12 {
        reply[..2].copy_from_slice(&query[..2]);
        reply[2] |= 0x80;
        if reply[5] == 1 {
            let len = query[12..].iter().position(|&byte| byte == 0).map_or(0, |at| at + 5);
            reply.splice(12..12, query[12..12 + len].iter().copied());
            reply.truncate(65_535);
        }
    }
    reply
}
