//! The manual: how the loop behaves, one page to a chapter.
//!
//! 1. [The turn](the_turn): in which order things happen, and what waits for what.
//! 2. [Flow control](flow_control): how a slow reader slows down a fast writer.
//! 3. [Consumed counts](consumed_counts): parsing without a buffer of one's own.
//! 4. [Closing](closing): how connections end, and how a program learns why.
//! 5. [Names](names): how a host name becomes addresses, without a thread.
//! 6. [Phases](phases): what happens between `connect` and the first byte, and what may go wrong.
//! 7. [Reconnecting](reconnecting): the same protocol on another connection.
//! 8. [Stacks](stacks): connections in layers, and how they change while they run.
//! 9. [Writing a layer](writing_a_layer): a state machine between two links.
//! 10. [From tokio](from_tokio) and [from asyncio](from_asyncio): what you know, under its name
//!     here, and what is different.
//!
//! Whole programs are in the folder `examples` of this crate; `make demo` runs one of them.

#[doc = include_str!("the_turn.md")]
pub mod the_turn {}

#[doc = include_str!("flow_control.md")]
pub mod flow_control {}

#[doc = include_str!("consumed_counts.md")]
pub mod consumed_counts {}

#[doc = include_str!("closing.md")]
pub mod closing {}

#[doc = include_str!("names.md")]
pub mod names {}

#[doc = include_str!("phases.md")]
pub mod phases {}

#[doc = include_str!("reconnecting.md")]
pub mod reconnecting {}

#[doc = include_str!("stacks.md")]
pub mod stacks {}

#[doc = include_str!("writing_a_layer.md")]
pub mod writing_a_layer {}

#[doc = include_str!("from_tokio.md")]
pub mod from_tokio {}

#[doc = include_str!("from_asyncio.md")]
pub mod from_asyncio {}
