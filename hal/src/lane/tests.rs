//! Two lanes with a faulty line between them.
