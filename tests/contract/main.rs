//! One suite of tests per trait, run for every backend. A new backend is a factory and one line.
