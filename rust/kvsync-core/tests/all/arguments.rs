//! Arguments that are refused.

use std::collections::BTreeMap;

use kvsync_core::{Cover, Error, NO_DIGEST, Segment, Span, TOMBSTONE};

use crate::model::{Change, by, key_list, logged, row};

#[test]
fn wrong_arguments_are_refused() {
    let keys = key_list(["a", ".kvsync/x"]);
    let values: [Option<&[u8]>; 2] = [Some(b"1"), None];
    let reserved = logged(&keys, &values, None, by(1, 1, 0));
    assert!(matches!(reserved, Err(Error::ReservedKey { .. })));
    let keys = key_list(["a", "b"]);
    assert!(logged(&keys, &values[..1], None, by(1, 1, 0)).is_err());
    assert!(logged(&keys, &values, None, by(1, 1, TOMBSTONE)).is_err());
    let late = logged(&keys, &values, None, by(1, u64::MAX, 0));
    assert_eq!(late.unwrap_err(), Error::ClockOverflow);
    assert!(logged(&keys, &values, None, by(1, u64::MAX - 1, 0)).is_ok());
    assert!(logged(&keys, &values, Some(vec![9, 0]), by(1, 1, 0)).is_ok());
    assert!(logged(&keys, &values, Some(vec![9]), by(1, 1, 0)).is_err());
    assert!(logged(&keys, &values, Some(vec![]), by(1, 1, 0)).is_err());
    let expiring = logged(&keys, &values, Some(vec![0, 9]), by(1, 1, 0));
    assert!(matches!(expiring, Err(Error::BadChange { key, .. }) if key == "b"));
    let change = Change {
        origin: 1,
        stamp: 1,
        flags: TOMBSTONE,
        size: 1,
        expires: 0,
        digest: NO_DIGEST,
    };
    assert!(Segment::from_rows(vec![row("a", &change)]).is_err());
    let change = Change {
        size: 0,
        expires: 1,
        ..change
    };
    assert!(Segment::from_rows(vec![row("a", &change)]).is_err());
    let change = Change { flags: 8, ..change };
    assert!(Segment::from_rows(vec![row("a", &change)]).is_err());
    let backwards = Span {
        origin: 1,
        first: 2,
        last: 1,
    };
    assert!(Cover::new(BTreeMap::new(), vec![backwards]).is_err());
}
