//! A join whose one side is reset: what that side had sent still arrives at the other, and then that
//! one is reset, too.

mod common;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::{address, on_every_driver_and_simulated, run};
use tepal::{CloseKind, Closed, EventLoop, Loop, Protocol, RateLimit, Stack, Target, Transport};

const TICK: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Scene {
    source: RefCell<Option<Transport>>,
    back: RefCell<Option<Transport>>,
    sink: RefCell<Option<Transport>>,
    received: Cell<usize>,
    lost: RefCell<Vec<(&'static str, CloseKind)>>,
    told: Cell<bool>,
}

impl Scene {
    fn note_lost(&self, who: &'static str, transport: &Transport, closed: &Closed) {
        self.lost.borrow_mut().push((who, closed.kind));
        // The source, both sides of the join, and the sink.
        if self.lost.borrow().len() == 4 {
            transport.event_loop().stop();
        }
    }
}

fn byte_at(place: usize) -> u8 {
    (place % 251) as u8
}

/// Sends so many bytes and then nothing.
struct Source(Rc<Scene>, usize);

impl Protocol for Source {
    fn connection_established(&mut self, transport: &Transport) {
        *self.0.source.borrow_mut() = Some(transport.clone());
        transport.write_segment((0..self.1).map(byte_at).collect::<Vec<u8>>());
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.0.note_lost("source", transport, closed);
    }
}

struct Front(Rc<Scene>, Target);

impl Protocol for Front {
    fn connection_established(&mut self, transport: &Transport) {
        transport.pause_reading();
        let back = Back(Rc::clone(&self.0), transport.clone());
        transport.event_loop().connect(back, self.1.clone());
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.0.note_lost("front", transport, closed);
    }
}

struct Back(Rc<Scene>, Transport);

impl Protocol for Back {
    fn connection_established(&mut self, transport: &Transport) {
        // It takes all that comes, whether it can send it or not.
        transport.set_write_buffer_limits(0, 1 << 30).expect("in order");
        *self.0.back.borrow_mut() = Some(transport.clone());
        let scene = Rc::clone(&self.0);
        let joined = self.1.join(transport).expect("both are established");
        transport.event_loop().spawn(async move {
            joined.await.expect_err("it was reset");
            scene.told.set(true);
        });
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> usize {
        panic!("what comes for a broken join is nobody's");
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.0.note_lost("back", transport, closed);
    }
}

/// Reads nothing until it is told to.
struct Sink(Rc<Scene>);

impl Protocol for Sink {
    fn connection_established(&mut self, transport: &Transport) {
        transport.pause_reading();
        *self.0.sink.borrow_mut() = Some(transport.clone());
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        let from = self.0.received.get();
        assert!(data.iter().copied().eq((from..).take(data.len()).map(byte_at)), "out of order");
        self.0.received.set(from + data.len());
        data.len()
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.0.note_lost("sink", transport, closed);
    }
}

/// Goes on with `then` once the source has sent everything and no byte has moved for fifty looks.
fn when_still(
    lp: &Loop,
    scene: Rc<Scene>,
    last: Option<usize>,
    looks: u32,
    then: fn(&Loop, &Rc<Scene>),
) {
    lp.call_later(TICK, move |lp| {
        let size = |side: &RefCell<Option<Transport>>| {
            side.borrow().as_ref().map(Transport::write_buffer_size)
        };
        let (source, back) = (size(&scene.source), size(&scene.back));
        let still = source == Some(0) && back.is_some() && back == last;
        match looks {
            50 if still => then(lp, &scene),
            _ => when_still(lp, scene, back, if still { looks + 1 } else { 0 }, then),
        }
    });
}

fn break_join(event_loop: &EventLoop, stack: Stack, len: usize) -> Rc<Scene> {
    let scene = Rc::new(Scene::default());
    let own = Rc::clone(&scene);
    let sink = event_loop.listen(move |_| Sink(Rc::clone(&own)), "127.0.0.1:0").expect("listens");
    let target: SocketAddr = address(&sink);
    let target = Target::address(target).stack(stack);
    let own = Rc::clone(&scene);
    let front = event_loop
        .listen(move |_| Front(Rc::clone(&own), target.clone()), "127.0.0.1:0")
        .expect("listens");
    event_loop.connect(Source(Rc::clone(&scene), len), address(&front));
    when_still(event_loop, Rc::clone(&scene), None, 0, |lp, scene| {
        scene.source.borrow().as_ref().expect("connected").abort();
        // The sink sleeps while the join is told of the reset.
        when_told(lp, Rc::clone(scene));
    });
    run(event_loop);
    front.close();
    sink.close();
    scene
}

fn when_told(lp: &Loop, scene: Rc<Scene>) {
    lp.call_later(TICK, move |lp| match scene.told.get() {
        true => scene.sink.borrow().as_ref().expect("connected").resume_reading(),
        false => when_told(lp, scene),
    });
}

#[test]
fn what_was_sent_before_a_reset_arrives_behind_a_join_before_the_reset_does() {
    on_every_driver_and_simulated(|event_loop| {
        // A few bytes, more than a link of layers holds, and more than kernels hold: without layers
        // what they do not hold stays with the source.
        for (len, layered) in
            [(10, false), (10, true), (300_000, false), (300_000, true), (12_000_000, true)]
        {
            let layers = layered.then(RateLimit::new);
            let stack = layers.map_or(Stack::new(), |layer| Stack::new().with(layer));
            let scene = break_join(event_loop, stack, len);
            let case = format!("{len} bytes on {}, layered: {layered}", event_loop.driver_name());
            assert_eq!(scene.received.get(), len, "{case}");
            let mut lost = scene.lost.take();
            lost.sort_by_key(|(who, _)| *who);
            let wanted = [
                ("back", CloseKind::Aborted),
                ("front", CloseKind::Reset),
                ("sink", CloseKind::Reset),
                ("source", CloseKind::Aborted),
            ];
            assert_eq!(lost, wanted, "{case}");
        }
    });
}
