//! The configuration: categories of typed keys, kept in one file.
