use crate::{Error, How, Info, Io, Layer, LayerSpec, Site, Status};

/// A layer that shows where bytes have passed it: it adds a number to each byte on its way down, and
/// takes it off on its way up.
///
/// For tests of what stands around it. It has no handshake, no deadline and no limit, and any number
/// of them can stand above each other.
#[derive(Clone, Debug)]
pub struct Shift(pub u8);

impl Shift {
    pub(super) const NAME: &'static str = "shift";
}

impl LayerSpec for Shift {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Layer for Shift {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        while !io.from_below.bytes().is_empty() && io.to_above.may_push() {
            let bytes = io.from_below.bytes();
            let count = bytes.len();
            bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_sub(self.0));
            io.to_above.push(bytes);
            io.from_below.consume(count);
        }
        while !io.from_above.is_empty() && io.to_below.room() > 0 {
            let piece = io.from_above.bytes();
            let sent: Vec<u8> = piece.iter().map(|byte| byte.wrapping_add(self.0)).collect();
            io.from_above.consume(sent.len());
            io.to_below.send_vec(sent);
        }
        Ok(if io.finishing() { Status::Done(How::Closed) } else { Status::Open })
    }
}
