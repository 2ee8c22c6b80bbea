use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

/// A target with the oracle of that name, whose first inputs are made of the oracle's seeds.
macro_rules! seeded {
    ($name:literal) => {
        fuzz_target!(|data: &[u8]| (tepal_fuzz::oracle($name).check)(data));

        fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, chance: u32| {
            let seeds = tepal_fuzz::oracle($name).seeds;
            let seed = seeds[chance as usize / 64 % seeds.len()];
            // Now and then a seed takes the place of what there is behind the two choices.
            let size = match data.get_mut(2..2 + seed.len()) {
                Some(room) if chance % 64 == 0 => {
                    room.copy_from_slice(seed);
                    2 + seed.len()
                }
                _ => size,
            };
            fuzzer_mutate(data, size, max_size)
        });
    };
}
