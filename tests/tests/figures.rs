//! Keeps the figures of the source from falling back: `make figures`.

use pulsegate_tests::figures::{find_excesses, measure_workspace};

#[test]
fn no_figure_of_the_source_is_above_its_limit() {
    let excesses = find_excesses(&measure_workspace("").unwrap());
    assert!(excesses.is_empty(), "{}", excesses.join("\n"));
}
