//! A protocol that notes every callback by its name, and does in each what a test says.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tepal::{Closed, Protocol, Transport};

type Action = Box<dyn FnMut(&Transport)>;

/// What was called, in order, and what is to be done.
#[derive(Default)]
pub struct Notes {
    pub events: Vec<String>,
    pub bytes: Vec<u8>,
    pub ends: Vec<Closed>,
    pub problems: Vec<String>,
    actions: HashMap<&'static str, Action>,
}

#[derive(Clone, Default)]
pub struct Story(pub Rc<RefCell<Notes>>);

impl Story {
    pub fn new() -> Story {
        Story::default()
    }

    /// Does this in each callback of that name.
    pub fn on(self, event: &'static str, action: impl FnMut(&Transport) + 'static) -> Story {
        self.0.borrow_mut().actions.insert(event, Box::new(action));
        self
    }

    pub fn events(&self) -> Vec<String> {
        self.0.borrow().events.clone()
    }

    pub fn count(&self, event: &str) -> usize {
        self.0.borrow().events.iter().filter(|seen| *seen == event).count()
    }

    fn note(&self, event: &'static str, transport: &Transport) {
        let action = {
            let mut notes = self.0.borrow_mut();
            notes.events.push(event.to_owned());
            notes.actions.remove(event)
        };
        if let Some(mut action) = action {
            action(transport);
            self.0.borrow_mut().actions.entry(event).or_insert(action);
        }
    }

    fn failed(&self, event: &'static str, transport: &Transport, closed: &Closed) {
        let problem = closed.problem.as_ref().map_or_else(|| closed.to_string(), |p| p.to_string());
        self.0.borrow_mut().problems.push(problem);
        self.note(event, transport);
    }
}

impl Protocol for Story {
    fn connection_made(&mut self, transport: &Transport) {
        self.note("made", transport);
    }
    fn connection_established(&mut self, transport: &Transport) {
        self.note("established", transport);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        self.0.borrow_mut().bytes.extend_from_slice(data);
        self.note("data", transport);
        data.len()
    }
    fn eof_received(&mut self, transport: &Transport) -> bool {
        self.note("eof", transport);
        false
    }
    fn error_dns(&mut self, transport: &Transport, closed: &Closed) {
        self.failed("error_dns", transport, closed);
    }
    fn timeout_dns(&mut self, transport: &Transport, closed: &Closed) {
        self.failed("timeout_dns", transport, closed);
    }
    fn error_connecting(&mut self, transport: &Transport, closed: &Closed) {
        self.failed("error_connecting", transport, closed);
    }
    fn timeout_connecting(&mut self, transport: &Transport, closed: &Closed) {
        self.failed("timeout_connecting", transport, closed);
    }
    fn timeout_handshake(&mut self, transport: &Transport, closed: &Closed) {
        self.failed("timeout_handshake", transport, closed);
    }
    fn error_ssl(&mut self, transport: &Transport, closed: &Closed) {
        self.failed("error_ssl", transport, closed);
    }
    fn error_layer(&mut self, transport: &Transport, closed: &Closed) {
        if closed.layer() == Some("tls") {
            return self.error_ssl(transport, closed);
        }
        self.failed("error_layer", transport, closed);
    }
    fn timeout_idle(&mut self, transport: &Transport) {
        self.note("timeout_idle", transport);
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.0.borrow_mut().ends.push(closed.clone());
        self.note("lost", transport);
    }
}
