//! Covers against sets of changes.

use std::collections::BTreeSet;

use kvsync_core::{Cover, Span};
use proptest::prelude::*;

use crate::model::any_cover;

/// The changes that a cover holds, among those that these tests use.
fn dots(cover: &Cover) -> BTreeSet<(u64, u64)> {
    let all = (0..4).flat_map(|origin| (0..40).map(move |stamp| (origin, stamp)));
    all.filter(|(origin, stamp)| cover.covers(*origin, *stamp)).collect()
}

fn is_normal(cover: &Cover) -> bool {
    let beyond = |span: &Span| cover.vector().get(&span.origin).is_none_or(|held| span.first > *held);
    let apart = |pair: &[Span]| (pair[0].origin, pair[0].last.saturating_add(1)) < (pair[1].origin, pair[1].first);
    cover.exceptions().iter().all(beyond) && cover.exceptions().windows(2).all(apart)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn covers_are_sets_in_one_normal_form(
        [x, y] in [any_cover(), any_cover()],
        dot in (0_u64..4, 0_u64..40),
    ) {
        prop_assert!(is_normal(&x));
        let spans = [x.exceptions(), y.exceptions()].concat();
        let more = Cover::new(x.vector().clone(), spans).unwrap();
        prop_assert!(is_normal(&more) && more.includes(&x) && x.includes(&x));
        let beyond = y.exceptions().iter().flat_map(|span| (span.first..=span.last).map(|stamp| (span.origin, stamp)));
        let expected: BTreeSet<(u64, u64)> = dots(&x).into_iter().chain(beyond).collect();
        prop_assert_eq!(dots(&more), expected);
        if x.includes(&y) {
            prop_assert!(dots(&x).is_superset(&dots(&y)));
            prop_assert_eq!(&more, &x);
        }
        prop_assert_eq!(Cover::new(x.vector().clone(), x.exceptions().to_vec()).unwrap(), x.clone());
        prop_assert!(x.covers_all(x.vector().iter().map(|(origin, stamp)| (*origin, *stamp))));
        prop_assert_eq!(x.covers_all([dot]), x.vector().get(&dot.0).is_some_and(|held| dot.1 <= *held));
    }
}
