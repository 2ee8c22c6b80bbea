/// An enum, and a list of all that is in it.
macro_rules! listed {
    ($name:ident, $all:ident { $($variant:ident,)* }) => {
        #[derive(Clone, Copy, PartialEq, Debug)]
        pub(crate) enum $name {
            $($variant,)*
        }
        pub(crate) const $all: [$name; [$($name::$variant),*].len()] = [$($name::$variant),*];
    };
}

pub(crate) use listed;
