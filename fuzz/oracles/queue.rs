//! The queue of bytes against a vector.

use tepal_base::{ByteQueue, Pool, Segment};

use super::choices;

/// Lists of operations: a code and a length each.
pub const LISTS: &[&[u8]] = &[
    b"\0\x05\x01\x20\x02\x10\x03\x08\0\xff\x02\xff",
    b"\x01\xff\x01\xff\x03\xff\x02\x01\x04\0\0\x01\x03\x02",
];

/// Random appends, moves and takes at two queues that share a pool.
pub fn byte_queue(data: &[u8]) {
    let (choice, _, list) = choices(data);
    let mut pool = Pool::new(8 << (choice & 7), usize::from(choice >> 6));
    let mut queues = [ByteQueue::new(), ByteQueue::new()];
    let mut models: [Vec<u8>; 2] = Default::default();
    let mut next = 0u8;
    for operation in list.as_chunks::<2>().0 {
        let [code, len] = *operation;
        let (which, len) = (usize::from(code >> 7), usize::from(len));
        let [first, second] = &mut queues;
        let (queue, other) = if which == 0 { (first, second) } else { (second, first) };
        let mut fresh = || {
            let bytes = (0..len).map(|_| {
                next = next.wrapping_add(1);
                next
            });
            bytes.collect::<Vec<u8>>()
        };
        match code & 7 {
            0 | 1 => {
                let bytes = fresh();
                queue.extend(&bytes, &mut pool);
                models[which].extend(bytes);
            }
            2 => {
                let bytes = fresh();
                models[which].extend(&bytes);
                queue.push(Segment::from(bytes));
            }
            3 | 4 => {
                let count = len.min(queue.len());
                queue.consume(count, &mut pool);
                models[which].drain(..count);
            }
            5 | 6 => {
                let count = len.min(queue.len());
                queue.move_to(count, other, &mut pool);
                let moved: Vec<u8> = models[which].drain(..count).collect();
                models[1 - which].extend(moved);
            }
            _ => {
                queue.clear();
                models[which].clear();
            }
        }
        for (queue, model) in queues.iter().zip(&models) {
            assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            assert_eq!(queue.to_vec(), *model);
            assert!(queue.pieces().all(|piece| !piece.is_empty()));
            assert!(queue.only_piece().is_none_or(|piece| piece == model));
        }
    }
}
