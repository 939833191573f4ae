//! The core's errors as kvsync's exceptions.

use kvsync_core::Error;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyString};

mod raised {
    use pyo3::import_exception;

    import_exception!(kvsync.errors, ClockError);
    import_exception!(kvsync.errors, FormatError);
    import_exception!(kvsync.errors, IndexDamagedError);
    import_exception!(kvsync.errors, UsageError);
}

/// The exception for an error, about the object of a name where there is one.
pub(crate) fn raise(py: Python<'_>, error: &Error, name: Option<&str>) -> PyErr {
    exception(py, error, name).unwrap_or_else(|failure| failure)
}

/// `UsageError(message, key=key)`.
pub(crate) fn usage(py: Python<'_>, message: &str, key: Option<&str>) -> PyErr {
    let exception = [("key", key)]
        .into_py_dict(py)
        .and_then(|attributes| make(&py.get_type::<raised::UsageError>(), message, &attributes));
    exception.unwrap_or_else(|failure| failure)
}

/// `UsageError` for a key that has no UTF-8, shown escaped.
pub(crate) fn no_text(key: &Bound<'_, PyString>) -> PyErr {
    let py = key.py();
    match key.as_any().repr() {
        Ok(shown) => {
            let shown = shown.to_string_lossy();
            let message = format!("key {shown} has surrogates: it has no UTF-8 encoding");
            usage(py, &message, Some(&shown))
        }
        Err(failure) => failure,
    }
}

fn exception(py: Python<'_>, error: &Error, name: Option<&str>) -> PyResult<PyErr> {
    let message = match name {
        Some(name) => format!("index object {name:?}: {error}"),
        None => error.to_string(),
    };
    let attributes = PyDict::new(py);
    let kind = match error {
        Error::Damaged { offset, .. } => {
            attributes.set_item("name", name)?;
            attributes.set_item("offset", offset)?;
            py.get_type::<raised::IndexDamagedError>()
        }
        Error::Newer { .. } => {
            attributes.set_item("name", name)?;
            attributes.set_item("offset", 5)?;
            py.get_type::<raised::FormatError>()
        }
        Error::ForgedKey { .. } => py.get_type::<raised::IndexDamagedError>(),
        Error::ClockOverflow => py.get_type::<raised::ClockError>(),
        Error::ReservedKey { key } | Error::Unordered { key } | Error::BadChange { key, .. } => {
            attributes.set_item("key", key)?;
            py.get_type::<raised::UsageError>()
        }
        _ => py.get_type::<raised::UsageError>(),
    };
    make(&kind, &message, &attributes)
}

fn make(kind: &Bound<'_, pyo3::types::PyType>, message: &str, attributes: &Bound<'_, PyDict>) -> PyResult<PyErr> {
    let exception = kind.call((message,), Some(attributes))?;
    Ok(PyErr::from_value(exception))
}
