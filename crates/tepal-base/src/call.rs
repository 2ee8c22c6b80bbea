use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};

/// A closure that is called once with an `&A`; one of up to two words needs no allocation.
///
/// A loop queues a great many of these, and most capture a reference or two. A `Box<dyn FnOnce>`
/// would take memory for each, and twice the time of everything else that queueing costs.
///
/// ```
/// use tepal_base::CallOnce;
///
/// let names = vec!["a", "b"];
/// let call = CallOnce::new(move |count: &usize| assert_eq!(names.len(), *count));
/// call.call(&2);
/// ```
pub struct CallOnce<A: ?Sized + 'static> {
    // Holds the closure, or a box of it: what `shape` was made for.
    place: Place,
    shape: &'static Shape<A>,
    // As a `Box<dyn FnOnce(&A)>`: bound to its thread.
    of: PhantomData<*mut ()>,
}

type Place = MaybeUninit<[usize; 2]>;

// What to do with a place that holds some closure. Both leave it empty.
struct Shape<A: ?Sized> {
    // SAFETY of both: the place holds a value of the shape's type, which nobody uses afterwards.
    call: unsafe fn(*mut Place, &A),
    drop: unsafe fn(*mut Place),
}

struct ShapeOf<F>(PhantomData<F>);

impl<F> ShapeOf<F> {
    // The place is as large and as well aligned as the value needs.
    const FITS: bool =
        size_of::<F>() <= size_of::<Place>() && align_of::<F>() <= align_of::<Place>();

    const fn of<A: ?Sized + 'static>() -> &'static Shape<A>
    where
        F: FnOnce(&A) + 'static,
    {
        &Shape { call: Self::call::<A>, drop: Self::drop }
    }

    unsafe fn call<A: ?Sized>(place: *mut Place, argument: &A)
    where
        F: FnOnce(&A),
    {
        // SAFETY: the caller's place holds an `F`, which is moved out here and not used again.
        let closure = unsafe { place.cast::<F>().read() };
        closure(argument);
    }

    unsafe fn drop(place: *mut Place) {
        // SAFETY: as in `call`.
        unsafe { place.cast::<F>().drop_in_place() };
    }
}

impl<A: ?Sized + 'static> CallOnce<A> {
    /// Keeps a closure.
    #[inline]
    pub fn new<F: FnOnce(&A) + 'static>(closure: F) -> CallOnce<A> {
        if ShapeOf::<F>::FITS {
            return CallOnce::inline(closure);
        }
        let boxed = Box::new(closure);
        CallOnce::inline(move |argument: &A| boxed(argument))
    }

    #[inline]
    fn inline<F: FnOnce(&A) + 'static>(closure: F) -> CallOnce<A> {
        const { assert!(ShapeOf::<Box<F>>::FITS) };
        assert!(ShapeOf::<F>::FITS, "a box fits, and `new` has asked for the rest");
        let mut place = Place::uninit();
        // SAFETY: the place is large and aligned enough, as was just checked.
        unsafe { place.as_mut_ptr().cast::<F>().write(closure) };
        CallOnce { place, shape: ShapeOf::<F>::of(), of: PhantomData }
    }

    /// Calls it.
    #[inline]
    pub fn call(self, argument: &A) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `shape` was made for the value that `new` put into the place; `this` is neither
        // used nor dropped afterwards, also if the closure panics.
        unsafe { (this.shape.call)(&raw mut this.place, argument) };
    }
}

impl<A: ?Sized + 'static> Drop for CallOnce<A> {
    fn drop(&mut self) {
        // SAFETY: as in `call`, which does not come here.
        unsafe { (self.shape.drop)(&raw mut self.place) };
    }
}

impl<A: ?Sized + 'static> fmt::Debug for CallOnce<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallOnce")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    #[test]
    fn closures_of_every_size_are_called_once_and_dropped_once() {
        fn check<const N: usize>() {
            let counter = Rc::new(Cell::new(0));
            for called in [true, false] {
                let (held, padding) = (Rc::clone(&counter), [7u8; N]);
                let call =
                    CallOnce::new(move |add: &usize| held.set(held.get() + add + padding.len()));
                assert_eq!(Rc::strong_count(&counter), 2);
                match called {
                    true => call.call(&1),
                    false => drop(call),
                }
                assert_eq!((Rc::strong_count(&counter), counter.get()), (1, 1 + N));
            }
        }
        check::<0>();
        check::<1>();
        check::<8>();
        check::<9>();
        check::<1000>();
    }

    #[test]
    fn a_closure_with_a_large_alignment_is_kept_aligned() {
        #[repr(align(64))]
        struct Wide(u8);
        let wide = Wide(3);
        CallOnce::new(move |n: &u8| {
            let wide = &wide;
            assert_eq!((wide.0, std::ptr::from_ref(wide).addr() % 64), (*n, 0));
        })
        .call(&3);
    }

    #[test]
    fn what_a_closure_holds_is_dropped_once_when_it_panics() {
        let counter = Rc::new(());
        let held = Rc::clone(&counter);
        let call = CallOnce::new(move |()| {
            let _held = held;
            panic!("on purpose");
        });
        assert!(catch_unwind(AssertUnwindSafe(|| call.call(&()))).is_err());
        assert_eq!(Rc::strong_count(&counter), 1);
    }

    #[test]
    fn a_call_is_three_words_and_so_is_an_option_of_one() {
        assert_eq!(size_of::<CallOnce<()>>(), 3 * size_of::<usize>());
        assert_eq!(size_of::<Option<CallOnce<()>>>(), 3 * size_of::<usize>());
    }
}
