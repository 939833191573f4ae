//! The core's errors as kvsync's exceptions.

use kvsync_core::Error;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyString, PyType};

mod exceptions {
    use pyo3::import_exception;

    import_exception!(kvsync.errors, ClockError);
    import_exception!(kvsync.errors, FormatError);
    import_exception!(kvsync.errors, IndexDamagedError);
    import_exception!(kvsync.errors, UsageError);
}

/// Offset of the format version in an object.
const VERSION_OFFSET: usize = 5;

/// The exception for an error.
#[expect(clippy::needless_pass_by_value, reason = "for use with `map_err`")]
pub(crate) fn raise(error: Error) -> PyErr {
    Python::attach(|py| exception(py, &error, None).unwrap_or_else(|failure| failure))
}

/// The exception for an error in the index object of a name.
pub(crate) fn raise_in(py: Python<'_>, name: &str, error: &Error) -> PyErr {
    exception(py, error, Some(name)).unwrap_or_else(|failure| failure)
}

/// `UsageError(message, key=key)`.
pub(crate) fn usage(py: Python<'_>, message: &str, key: Option<&str>) -> PyErr {
    let attributes = [("key", key)].into_py_dict(py);
    let exception =
        attributes.and_then(|attributes| make(&py.get_type::<exceptions::UsageError>(), message, &attributes));
    exception.unwrap_or_else(|failure| failure)
}

/// `UsageError` for a key that cannot be encoded as UTF-8, shown escaped.
pub(crate) fn not_encodable(key: &Bound<'_, PyString>) -> PyErr {
    let py = key.py();
    match key.as_any().repr() {
        Ok(shown) => {
            let shown = shown.to_string_lossy();
            let message = format!("key {shown} has surrogates, which have no UTF-8 encoding");
            usage(py, &message, Some(&shown))
        }
        Err(failure) => failure,
    }
}

fn exception(py: Python<'_>, error: &Error, name: Option<&str>) -> PyResult<PyErr> {
    let attributes = PyDict::new(py);
    let offset = match error {
        Error::Damaged { offset, .. } => Some(*offset),
        Error::Newer { .. } => Some(VERSION_OFFSET),
        _ => None,
    };
    if let Some(offset) = offset {
        attributes.set_item("name", name)?;
        attributes.set_item("offset", offset)?;
    }
    if let Error::ReservedKey { key } | Error::Unordered { key } | Error::BadChange { key, .. } = error {
        attributes.set_item("key", key)?;
    }
    let message = match name {
        Some(name) => format!("index object {name:?}: {error}"),
        None => error.to_string(),
    };
    make(&exception_type(py, error), &message, &attributes)
}

fn exception_type<'py>(py: Python<'py>, error: &Error) -> Bound<'py, PyType> {
    match error {
        Error::Damaged { .. } | Error::ForgedKey { .. } => py.get_type::<exceptions::IndexDamagedError>(),
        Error::Newer { .. } => py.get_type::<exceptions::FormatError>(),
        Error::ClockOverflow => py.get_type::<exceptions::ClockError>(),
        _ => py.get_type::<exceptions::UsageError>(),
    }
}

fn make(kind: &Bound<'_, PyType>, message: &str, attributes: &Bound<'_, PyDict>) -> PyResult<PyErr> {
    let exception = kind.call((message,), Some(attributes))?;
    Ok(PyErr::from_value(exception))
}
